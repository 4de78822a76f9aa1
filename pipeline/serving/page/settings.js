// The sampling settings: their controls, and the options that they add to a request.

// Sliders cover the usual range (low, high); the number fields accept all that the server does (least, most). A test
// compares those with pipeline/params/sampling.py.
const CONTROLS = [
  {
    id: "temperature", field: "temperature", label: "Temperature", start: 0.8, low: 0, high: 2, step: 0.05, least: 0, most: 100,
    hint: "How varied the text is. 0 always takes the most likely character.",
  },
  {
    id: "top-k", field: "top_k", label: "Top-k", start: 0, low: 0, high: 50, step: 1, least: 0, most: 2 ** 31, whole: true,
    hint: "Draws from the k most likely characters only. 0: from all.",
  },
  {
    id: "top-p", field: "top_p", label: "Top-p", start: 1, low: 0.05, high: 1, step: 0.01, least: 0.01, most: 1,
    hint: "Draws from the most likely that make up this share. 1: from all.",
  },
  {
    id: "min-p", field: "min_p", label: "Min-p", start: 0, low: 0, high: 0.5, step: 0.01, least: 0, most: 1,
    hint: "Drops those far less likely than the most likely. 0: none.",
  },
  {
    id: "repetition-penalty", field: "repetition_penalty", label: "Repetition penalty",
    start: 1, low: 1, high: 2, step: 0.05, least: 0.01, most: 100,
    hint: "Above 1, characters just used become less likely.",
  },
  {
    id: "ngram-weight", field: "ngram_weight", label: "N-gram model", start: 1, low: 0, high: 1, step: 0.05, least: 0, most: 1,
    hint: "How much the n-gram model counts. Lower copies less. 0: the network alone.",
  },
  {
    id: "length", field: "max_tokens", label: "Length", start: 400, low: 50, high: 2000, step: 50, least: 1, most: 20000, whole: true,
    hint: "The number of characters to generate.",
  },
];
// Greedy sampling; the length is the same as for the other text.
const GREEDY = { temperature: 0, top_k: 0, top_p: 1, min_p: 0, repetition_penalty: 1 };

export class Settings {
  #seed;
  #inputs = new Map();

  /** Put the controls into `place`; `onChange` is called after each change. `seed` is the seed's input. */
  constructor(place, seed, onChange) {
    this.#seed = seed;
    seed.addEventListener("input", onChange);
    for (const control of CONTROLS) {
      const { element, number, slider } = build(control);
      number.addEventListener("input", () => {
        slider.value = number.value;
        onChange();
      });
      slider.addEventListener("input", () => {
        number.value = slider.value;
        onChange();
      });
      this.#inputs.set(control.id, { number, slider });
      place.append(element);
    }
  }

  /** The sampling options of a request. */
  request(seed) {
    const values = CONTROLS.map((control) => [control.field, this.#valueOf(control)]);
    return { ...Object.fromEntries(values), seed };
  }

  /** The same, but greedy. */
  greedyRequest(seed) {
    return { ...this.request(seed), ...GREEDY };
  }

  /** The seed in its field, or null. */
  get seed() {
    const seed = Number.parseInt(this.#seed.value, 10);
    return Number.isSafeInteger(seed) ? seed : null;
  }

  set seed(seed) {
    this.#seed.value = seed ?? "";
  }

  /** All values by the controls' names. */
  values() {
    return Object.fromEntries(CONTROLS.map((control) => [control.id, this.#valueOf(control)]));
  }

  /** Set `values`; a control without a number there gets its default. */
  restore(values) {
    for (const { id, start } of CONTROLS) {
      const value = Number.parseFloat(values[id]);
      const { number, slider } = this.#inputs.get(id);
      number.value = slider.value = Number.isFinite(value) ? value : start;
    }
  }

  /** Mark the control of the `field` that the server refused; none if null. */
  mark(field) {
    for (const control of CONTROLS) {
      this.#inputs.get(control.id).number.ariaInvalid = String(control.field === field);
    }
    this.#seed.ariaInvalid = String(field === "seed");
  }

  /** Show the control of the n-gram model, or hide it where the model has none. */
  showNgram(shown) {
    this.#inputs.get("ngram-weight").number.closest(".control").hidden = !shown;
  }

  #valueOf({ id, start, whole }) {
    const value = this.#inputs.get(id).number.valueAsNumber;
    if (!Number.isFinite(value)) return start;
    return whole ? Math.round(value) : value;
  }
}

/** A random seed. */
export function drawSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0];
}

function build({ id, label, start, low, high, step, least, most, hint }) {
  const element = document.createElement("div");
  element.className = "control";
  const head = document.createElement("div");
  head.className = "control-head";
  const name = Object.assign(document.createElement("label"), { htmlFor: id, textContent: label });
  const number = Object.assign(document.createElement("input"), {
    id, className: "number", type: "number", inputMode: "decimal", min: least, max: most, step: "any", value: start,
  });
  const slider = Object.assign(document.createElement("input"), {
    id: `${id}-slider`, type: "range", min: low, max: high, step, value: start,
  });
  const text = Object.assign(document.createElement("p"), { id: `${id}-hint`, className: "hint", textContent: hint });
  slider.setAttribute("aria-label", label);
  number.setAttribute("aria-describedby", text.id);
  head.append(name, number);
  element.append(head, slider, text);
  return { element, number, slider };
}
