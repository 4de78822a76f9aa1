// Generates texts: starts, stops and continues one or two columns, and reports how they ended.

import { write } from "./model.js";
import { drawSeed } from "./settings.js";
import { endingLoop, summaryOf } from "./surprise.js";
import { TextView } from "./text-view.js";
import { count, decimal } from "./words.js";

class Column {
  #element;
  #given;
  #facts;

  /** A text in `element`; `requestOf` returns a request's options for a seed. */
  constructor(element, output, popover, requestOf) {
    this.#element = element;
    this.#given = element.querySelector(".given");
    this.#facts = element.querySelector(".facts");
    this.view = new TextView(output, popover);
    this.requestOf = requestOf;
    // The text's length before the current request.
    this.base = 0;
  }

  set hidden(hidden) {
    this.#element.hidden = hidden;
  }

  begin(prompt) {
    this.#given.textContent = prompt;
    this.view.cut(0);
    this.#facts.textContent = "";
    this.#element.classList.remove("busy");
    this.base = 0;
  }

  async write(seed, signal) {
    const prompt = this.#given.textContent + this.view.text;
    let ended = false;
    this.#element.classList.add("busy");
    try {
      for await (const { characters, reason } of write({ prompt, ...this.requestOf(seed) }, signal)) {
        if (signal.aborted) return;
        this.view.add(characters);
        ended = reason === "stop";
      }
    } finally {
      if (!signal.aborted || signal.reason === STOPPED) this.#finish(seed, ended);
    }
  }

  #finish(seed, ended) {
    this.view.flush();
    this.#element.classList.remove("busy");
    const { count: length, bits } = summaryOf(this.view.characters);
    if (!length) return;
    const facts = [`Seed ${seed}`, count(length, "character"), `${decimal(bits)} bits per character`];
    if (ended) facts.push("ended by itself");
    const loop = endingLoop(this.view.characters);
    if (loop) facts.push(`repeats the same ${count(loop.period, "character")} from character ${loop.start + 1} on`);
    this.#facts.textContent = facts.join(" · ");
  }
}

// Why a text was aborted: the user stopped it, or began another one.
const STOPPED = new DOMException("stopped", "AbortError");
const REPLACED = new DOMException("replaced", "AbortError");

export class Writing {
  #part = (id) => document.getElementById(id);
  #settings;
  #notices;
  #onSeed;
  #sampled;
  #greedy;
  #run = null;

  /** `onSeed` is called when a text with another seed begins. */
  constructor(settings, notices, popover, onSeed) {
    this.#settings = settings;
    this.#notices = notices;
    this.#onSeed = onSeed;
    this.lastSeed = null;
    this.#sampled = new Column(this.#part("column-sampled"), this.#part("output"), popover, (seed) => settings.request(seed));
    this.#greedy = new Column(this.#part("column-greedy"), this.#part("output-greedy"), popover, (seed) =>
      settings.greedyRequest(seed),
    );
    this.#part("write").addEventListener("click", () => this.begin());
    this.#part("stop").addEventListener("click", () => this.stop());
    this.#part("continue").addEventListener("click", () => this.#continue());
    this.#part("same-seed").addEventListener("click", () => this.#beginWith(this.lastSeed));
    this.#part("new-seed").addEventListener("click", () => this.#beginWith(drawSeed()));
  }

  /** Show one column or two. */
  compare(both) {
    this.#greedy.hidden = !both;
    this.#part("columns").classList.toggle("two", both);
    this.#part("heading-sampled").hidden = !both;
  }

  /** Generate from the prompt. */
  begin() {
    const seed = this.#settings.seed ?? drawSeed();
    const prompt = this.#part("prompt").value;
    this.stop(REPLACED);
    for (const column of [this.#sampled, this.#greedy]) column.begin(prompt);
    this.#start(this.#columns(), seed);
  }

  stop(reason = STOPPED) {
    this.#run?.abort(reason);
  }

  #beginWith(seed) {
    this.#settings.seed = seed;
    this.begin();
  }

  #continue() {
    const columns = this.#columns();
    this.stop(REPLACED);
    for (const column of columns) column.base = column.view.characters.length;
    this.#start(columns, this.#settings.seed ?? this.lastSeed);
  }

  #columns() {
    return this.#part("compare").checked ? [this.#greedy, this.#sampled] : [this.#sampled];
  }

  async #start(columns, seed) {
    const run = new AbortController();
    this.#run = run;
    this.lastSeed = seed;
    this.#onSeed();
    this.#settings.mark(null);
    this.#notices.clear();
    this.#notices.status("Writing…");
    this.#showButtons();
    const ends = await Promise.allSettled(columns.map((column) => column.write(seed, run.signal)));
    if (this.#run !== run) return;
    this.#run = null;
    this.#showButtons();
    const failed = columns.filter((_, at) => ends[at].reason && ends[at].reason.name !== "AbortError");
    if (failed.length) {
      this.#showFailure(ends.find((end) => end.reason && end.reason.name !== "AbortError").reason, failed, seed);
    } else {
      const written = columns.map((column) => column.view.characters.length - column.base);
      this.#notices.status(`${run.signal.aborted ? "Stopped" : "Done"}: ${count(Math.max(...written), "character")}.`);
    }
  }

  #showFailure(error, columns, seed) {
    this.#notices.status("");
    this.#settings.mark(error.param ?? null);
    this.#notices.error(error, () => {
      for (const column of columns) column.view.cut(column.base);
      this.#start(columns, error.kind === "refused" ? (this.#settings.seed ?? seed) : seed);
    });
  }

  #showButtons() {
    const [write, stop, continueButton] = ["write", "stop", "continue"].map(this.#part);
    const focused = document.activeElement;
    stop.disabled = this.#run === null;
    continueButton.disabled = this.#run !== null || !this.#columns().some((column) => column.view.characters.length);
    this.#part("same-seed").disabled = this.lastSeed === null;
    // A disabled button would lose the focus.
    if (focused.disabled) [stop, continueButton, write].find((button) => !button.disabled).focus();
  }
}
