// Scores a pasted text: sends it to the model, shades it, and shows its figures.

import { showFigures } from "./figures.js";
import { score } from "./model.js";
import { summaryOf } from "./surprise.js";
import { TextView } from "./text-view.js";
import { count, decimal, whole } from "./words.js";

export class Scoring {
  #part = (id) => document.getElementById(id);
  #notices;
  #view;
  #run = null;

  constructor(notices, popover) {
    this.#notices = notices;
    this.#view = new TextView(this.#part("score-shaded"), popover);
    this.#part("score-run").addEventListener("click", () => this.run());
  }

  stop() {
    this.#run?.abort();
  }

  async run() {
    const text = this.#part("score-text").value;
    this.stop();
    this.#notices.clear();
    if (!text) {
      this.#notices.status("There is no text yet.");
      return;
    }
    const run = new AbortController();
    this.#run = run;
    this.#notices.status("Reading…");
    try {
      this.#show(await score(text, run.signal));
    } catch (error) {
      if (this.#run !== run) return;
      this.#notices.status(error.name === "AbortError" ? "Stopped." : "");
      if (error.name !== "AbortError") this.#notices.error(error, () => this.run());
    } finally {
      if (this.#run === run) this.#run = null;
    }
  }

  #show({ characters, warnings }) {
    const { count: length, unknown, bits, perplexity } = summaryOf(characters);
    this.#view.cut(0);
    this.#view.add(characters);
    this.#view.flush();
    showFigures(this.#part("score-figures"), [
      ["Perplexity", perplexity === null ? "–" : decimal(perplexity)],
      ["Bits per character", bits === null ? "–" : decimal(bits)],
      ["Characters", whole(length)],
      ["Unknown to the model", whole(unknown)],
    ]);
    const list = this.#part("score-warnings");
    list.hidden = !warnings.length;
    list.replaceChildren(...warnings.map((warning) => Object.assign(document.createElement("li"), { textContent: warning })));
    this.#part("score-result").hidden = false;
    this.#notices.status(`Done: ${count(length, "character")}.`);
  }
}
