// The model: reads and writes ids with the network (WebAssembly, pipeline/export/wasm.py) and the n-gram model.

import { Ngram } from "./ngram.js";
import { choose, uniform } from "./sampling.js";

const PAGE = 65536;
// Arrays are padded, since the code reads and writes whole vectors.
const PADDING = 64;

export class Engine {
  #code;
  #memory = new WebAssembly.Memory({ initial: 1 });
  #used = PADDING;
  #places = {}; // addresses
  #layers; // those of each layer
  #embedding;
  #tiles;
  #outputTiles;
  #known; // the ids whose rows of the input table are computed

  /** Return the engine of a model; `arrays` are typed arrays by their names. */
  static async of(header, arrays) {
    const engine = new Engine();
    const imports = { env: { __linear_memory: engine.#memory } };
    engine.#code = (await WebAssembly.instantiate(arrays.code, imports)).instance.exports;
    engine.#load(header, arrays);
    return engine;
  }

  #load({ config, shapes, ngram, dictionary }, arrays) {
    this.config = config;
    this.vocab = config.vocab_size;
    this.dictionary = dictionary;
    const gates = shapes["layers.0.weight_hh_l0"][0];
    const tile = config.tile;
    this.width = Math.ceil(gates / tile) * tile;
    const place = (name, values) => (this.#places[name] = this.#put(values));
    for (const name of Object.keys(shapes)) {
      const [rows, columns] = shapes[name];
      if (columns === undefined) place(name, arrays[name]);
      else if (name === "embedding.weight") place(name, matrixOf(arrays, name, config.weights, rows, columns));
      else place(name, tilesOf(matrixOf(arrays, name, config.weights, rows, columns), rows, columns, tile));
    }
    this.#places.table = this.#allocate(this.vocab * this.width);
    this.#known = new Uint8Array(this.vocab);
    this.#layers = [...Array(config.num_layers).keys()].map((layer) => ({
      h: this.#allocate(config.num_hidden),
      c: this.#allocate(config.num_hidden),
      inputs: this.#places[`layers.${layer}.weight_ih_l0`],
      bias: this.#places[`layers.${layer}.bias_ih_l0`],
      hidden: this.#places[`layers.${layer}.weight_hh_l0`],
      hiddenBias: this.#places[`layers.${layer}.bias_hh_l0`],
    }));
    this.#places.projected = this.#allocate(this.width);
    this.#places.recurrent = this.#allocate(this.width);
    for (const name of ["logits", "line", "probs"]) this.#places[name] = this.#allocate(this.vocab + tile);
    this.#tiles = this.width / tile;
    this.#outputTiles = Math.ceil(this.vocab / tile);
    this.#embedding = this.#places["embedding.weight"];
    this.#places.output = this.#places["output.weight"];
    this.#places.outputBias = this.#places["output.bias"];
    if (ngram) {
      const [text, discounts, weights] = ["text", "discounts", "weights"].map((name) => arrays[`ngram.${name}`]);
      this.ngram = new Ngram({ text, discounts, weights, ...ngram });
    }
    this.probs = new Float64Array(this.vocab); // the n-gram model's
    this.logits = this.#floats("logits", this.vocab);
    this.line = this.#floats("line", this.vocab);
    this.exps = this.#floats("probs", this.vocab);
    this.writable = Uint8Array.from({ length: this.vocab }, (_, id) => id >= dictionary.first || id === dictionary.end);
  }

  /** Reserve memory for `length` numbers; returns its address. */
  #allocate(length) {
    const address = this.#used;
    this.#used += Math.ceil((4 * length + PADDING) / PADDING) * PADDING;
    const lacking = this.#used + PADDING - this.#memory.buffer.byteLength;
    if (lacking > 0) this.#memory.grow(Math.ceil(lacking / PAGE));
    return address;
  }

  #put(values) {
    const address = this.#allocate(values.length);
    new Float32Array(this.#memory.buffer, address, values.length).set(values);
    return address;
  }

  #floats(name, length) {
    return new Float32Array(this.#memory.buffer, this.#places[name], length);
  }

  /** The state of a text that has nothing yet. */
  start() {
    const { num_layers: layers, num_hidden: hidden } = this.config;
    const zeros = () => Array.from({ length: layers }, () => new Float32Array(hidden));
    return { h: zeros(), c: zeros(), ngram: this.ngram?.start() ?? null };
  }

  /** Continue from `state`; `save` stores it again. There is one text in the network at a time. */
  restore(state) {
    this.#each((view, kind, layer) => view.set(state[kind][layer]));
    this.states = state.ngram;
  }

  save(state) {
    this.#each((view, kind, layer) => state[kind][layer].set(view));
  }

  #each(copy) {
    this.#layers.forEach((own, layer) => {
      for (const kind of ["h", "c"]) {
        copy(new Float32Array(this.#memory.buffer, own[kind], this.config.num_hidden), kind, layer);
      }
    });
  }

  /** Read one id. */
  read(id) {
    const { multiply, [this.config.cell]: update } = this.#code;
    const { projected, recurrent } = this.#places;
    const size = this.config.num_hidden;
    let input = this.#tableRow(id);
    let below = 0; // the address of the layer below's h
    for (const { h, c, inputs, bias, hidden, hiddenBias } of this.#layers) {
      if (below) {
        multiply(projected, below, size, inputs, bias, this.#tiles);
        input = projected;
      }
      multiply(recurrent, h, size, hidden, hiddenBias, this.#tiles);
      update(h, c, input, recurrent, size);
      below = h;
    }
    this.ngram?.advance(this.states, id);
  }

  /** The address of the first layer's input for `id`, computed when it is first needed. */
  #tableRow(id) {
    const row = this.#places.table + 4 * this.width * id;
    if (!this.#known[id]) {
      this.#known[id] = 1;
      const { inputs, bias } = this.#layers[0];
      const embed = this.config.num_embed;
      this.#code.multiply(row, this.#embedding + 4 * embed * id, embed, inputs, bias, this.#tiles);
    }
    return row;
  }

  /** Predict the next id: sets `line`, the model's own logits, and `logits`, those with the n-gram model's `weight`.
   *  Returns the logarithm that normalises `line`. */
  predict(weight = 1) {
    const { logits, line, probs, output, outputBias } = this.#places;
    this.#code.multiply(logits, this.#layers.at(-1).h, this.config.num_hidden, output, outputBias, this.#outputTiles);
    this.line.set(this.logits);
    if (this.ngram) {
      this.ngram.mix(this.states, 1, this.line, this.probs);
      if (weight === 1) this.logits.set(this.line);
      else this.ngram.mix(this.states, weight, this.logits, this.probs);
    }
    let best = -Infinity;
    for (let i = 0; i < this.vocab; i++) if (this.line[i] > best) best = this.line[i];
    this.#code.exps(probs, line, this.vocab, best, 1);
    let total = 0;
    for (let i = 0; i < this.vocab; i++) total += this.exps[i];
    return best + Math.log(total);
  }

  /** Choose the next id of `text`, of which `position` characters are written; see `choose`. */
  choose(text, position) {
    return choose(this.logits, text, uniform(text.options.seed, position), this.#exponentials);
  }

  #exponentials = (_, least, factor) => {
    this.#code.exps(this.#places.probs, this.#places.logits, this.vocab, least, factor);
    return this.exps;
  };
}

/** The matrix [rows, columns] that is stored as int8 with a scale for each row, or as the two bytes of bfloat16. */
function matrixOf(arrays, name, weights, rows, columns) {
  const stored = arrays[name];
  const matrix = new Float32Array(rows * columns);
  if (weights === "int8") {
    const scale = arrays[`${name}.scale`];
    for (let i = 0; i < matrix.length; i++) matrix[i] = stored[i] * scale[Math.floor(i / columns)];
  } else {
    const bits = new Uint32Array(matrix.buffer);
    for (let i = 0; i < bits.length; i++) bits[i] = (stored[i] | (stored[bits.length + i] << 8)) << 16;
  }
  return matrix;
}

/** `matrix` [rows, columns], transposed and cut into tiles of `tile` rows: [tiles, columns, tile]. */
function tilesOf(matrix, rows, columns, tile) {
  const tiles = new Float32Array(Math.ceil(rows / tile) * columns * tile);
  for (let row = 0; row < rows; row++) {
    const start = Math.floor(row / tile) * columns * tile + (row % tile);
    for (let k = 0; k < columns; k++) tiles[start + k * tile] = matrix[row * columns + k];
  }
  return tiles;
}
