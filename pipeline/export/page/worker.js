// The Web Worker of an exported page: loads the model that it is sent, then writes and scores texts. Messages:
//   {payload} -> {card, symbols, options}
//   {number, write: request} -> {number, ...characters, reason} … until there is a reason: "length" or "stop"
//   {number, score: text} -> {number, ...characters} … {number, done: true}
//   {stop: number} ends a text;  {number, error, param} is the answer to what cannot be done

import { Engine } from "./engine.js";

// The number of alternatives sent with each character.
const ALTERNATIVES = 5;
// How long the worker computes before it looks for messages, in milliseconds.
const TURN = 12;
// The number of characters that are written between two looks at the clock.
const LOOKS = 8;
const KINDS = {
  uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, uint32: Uint32Array, float32: Float32Array, float64: Float64Array,
};

class Refusal extends Error {
  constructor(param, message) {
    super(`${param}: ${message}`);
    this.param = param;
  }
}

let engine = null;
let header = null;
let ids = null; // of each character
const stopped = new Set();

self.addEventListener("message", async ({ data }) => {
  if ("stop" in data) {
    stopped.add(data.stop);
    return;
  }
  const { number = null } = data;
  try {
    if (data.payload) await load(data.payload);
    else if (data.write) await write(number, data.write);
    else await score(number, data.score);
  } catch (error) {
    postMessage({ number, error: error.message, param: error.param ?? null });
  }
  stopped.delete(number);
});

async function load(compressed) {
  if (!self.DecompressionStream) throw new Error("this browser is too old: it must be from 2023 or later");
  const stream = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const payload = await new Response(stream).arrayBuffer();
  const length = new DataView(payload).getUint32(0, true);
  header = JSON.parse(new TextDecoder().decode(new Uint8Array(payload, 4, length)));
  const arrays = Object.fromEntries(
    Object.entries(header.arrays).map(([name, { at, length: count, kind }]) => [
      name, new KINDS[kind](payload, 4 + length + at, count),
    ]),
  );
  engine = await Engine.of(header, arrays);
  const { symbols, first } = header.dictionary;
  ids = new Map(symbols.slice(first).map((symbol, at) => [symbol, first + at]));
  postMessage({ number: null, card: header.card, symbols, options: header.options });
}

/** Let messages in. (A timer would wait for at least 4 ms.) */
function pause() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

/** The ids that a text begins with, before those of a prompt. */
function opening(isEmpty) {
  if (header.dictionary.begin !== null) return [header.dictionary.begin];
  const blank = ["\n", " "].find((char) => ids.has(char));
  return isEmpty && blank !== undefined ? [ids.get(blank)] : [];
}

/** Read ids into `state`, letting other texts have their turns. */
async function readAll(known, state, number) {
  for (let at = 0; at < known.length && !stopped.has(number); ) {
    engine.restore(state);
    for (const end = performance.now() + TURN; at < known.length && performance.now() < end; at++) engine.read(known[at]);
    engine.save(state);
    await pause();
  }
}

/** The characters of one message: their ids, and the likeliest ids with their log-probabilities. */
class Characters {
  text = [];
  logProbs = [];
  rivals = [];
  rivalLogProbs = [];
  #best = new Int32Array(Math.min(ALTERNATIVES, engine.vocab));

  /** Add a character that was predicted by `engine.line`. */
  add(id, normaliser) {
    const { line, vocab } = engine;
    const best = this.#best;
    const most = best.length;
    this.text.push(id);
    this.logProbs.push(line[id] - normaliser);
    let found = 0;
    for (let other = 0; other < vocab; other++) {
      const value = line[other];
      if (found === most && value <= line[best[most - 1]]) continue;
      let at = found < most ? found++ : most - 1;
      for (; at > 0 && line[best[at - 1]] < value; at--) best[at] = best[at - 1];
      best[at] = other;
    }
    for (let at = 0; at < most; at++) {
      this.rivals.push(best[at]);
      this.rivalLogProbs.push(line[best[at]] - normaliser);
    }
  }

  /** Remove the first `count` characters, and return them as the content of a message. */
  take(count) {
    const most = this.#best.length;
    return {
      text: Int32Array.from(this.text.splice(0, count)),
      logProbs: Float32Array.from(this.logProbs.splice(0, count)),
      rivals: Int32Array.from(this.rivals.splice(0, count * most)),
      rivalLogProbs: Float32Array.from(this.rivalLogProbs.splice(0, count * most)),
    };
  }
}

async function write(number, request) {
  const options = checked(request);
  const prompt = [...(options.prompt ?? "")].filter((char) => ids.has(char)).map((char) => ids.get(char));
  const state = engine.start();
  await readAll([...opening(!prompt.length), ...prompt], state, number);
  const text = {
    options,
    allowed: allowedOf(options.allowed),
    bias: biasOf(options.logit_bias),
    counts: new Int32Array(engine.vocab),
    recent: [],
  };
  // The last ids, which the repetition penalty looks at.
  const most = options.repetition_penalty === 1 ? 0 : options.repetition_window;
  if (most) text.recent = prompt.slice(-most);
  const { symbols, end: endSymbol } = header.dictionary;
  const stops = [options.stop ?? []].flat();
  const waiting = new Characters(); // some may be the beginning of a stop string
  let reason = options.max_tokens ? null : "length";
  if (reason) postMessage({ number, ...waiting.take(0), reason });
  for (let written = 0; reason === null && !stopped.has(number); await pause()) {
    engine.restore(state);
    let sure = 0;
    const turn = performance.now() + (written ? TURN : 0); // the first characters at once
    do {
      const normaliser = engine.predict(options.ngram_weight);
      const id = engine.choose(text, written);
      if (id === endSymbol) {
        [reason, sure] = ["stop", waiting.text.length];
        break;
      }
      waiting.add(id, normaliser);
      written++;
      text.counts[id]++;
      if (most && text.recent.push(id) > most) text.recent.shift();
      const held = stops.length ? waiting.text.map((one) => symbols[one]).join("") : "";
      const found = Math.max(0, ...stops.filter((stop) => held.endsWith(stop)).map((stop) => stop.length));
      if (found) [reason, sure] = ["stop", [...held.slice(0, held.length - found)].length];
      else if (written === options.max_tokens) [reason, sure] = ["length", waiting.text.length];
      else sure = waiting.text.length - [...held.slice(held.length - overlap(held, stops))].length;
      engine.read(id);
    } while (reason === null && (written % LOOKS || performance.now() < turn));
    engine.save(state);
    if (sure || reason) postMessage({ number, ...waiting.take(sure), reason });
  }
}

/** The length of the longest end of `text` that is a beginning of a stop string. */
function overlap(text, stops) {
  let most = 0;
  for (const stop of stops) {
    for (let length = Math.min(stop.length - 1, text.length); length > most; length--) {
      if (text.endsWith(stop.slice(0, length))) most = length;
    }
  }
  return most;
}

async function score(number, text) {
  const state = engine.start();
  await readAll(opening(true), state, number);
  const known = [...text].map((char) => ids.get(char) ?? null);
  const found = new Characters();
  for (let at = 0; at < known.length && !stopped.has(number); await pause()) {
    engine.restore(state);
    for (const turn = performance.now() + TURN; at < known.length && performance.now() < turn; at++) {
      if (known[at] === null) continue;
      found.add(known[at], engine.predict());
      engine.read(known[at]);
    }
    engine.save(state);
    postMessage({ number, ...found.take(found.text.length) });
  }
  postMessage({ number, done: true });
}

/** The request with all options; throws a Refusal if one is out of range. */
function checked(request) {
  const options = { ...request };
  for (const [name, { start, low, high, lowAllowed, allowed }] of Object.entries(header.options)) {
    options[name] ??= start;
    const value = options[name];
    const isWithin = typeof value === "number" && (lowAllowed ? value >= low : value > low) && value <= high;
    if (!isWithin) throw new Refusal(name, `found ${value}, allowed is ${allowed}`);
  }
  return options;
}

function allowedOf(characters) {
  if (characters === null || characters === undefined) return engine.writable;
  const allowed = new Uint8Array(engine.vocab);
  for (const char of characters) if (ids.has(char)) allowed[ids.get(char)] = 1;
  if (!allowed.includes(1)) throw new Refusal("allowed", "the model knows none of the characters");
  if (header.dictionary.end !== null) allowed[header.dictionary.end] = 1;
  return allowed;
}

function biasOf(biases) {
  if (!biases) return null;
  const { symbols, end } = header.dictionary;
  const bias = new Float32Array(engine.vocab);
  for (const [char, value] of Object.entries(biases)) {
    const id = ids.get(char) ?? (end !== null && char === symbols[end] ? end : undefined);
    if (id === undefined) throw new Refusal("logit_bias", `found ${char}, allowed are characters that the model knows`);
    bias[id] = value;
  }
  return bias;
}
