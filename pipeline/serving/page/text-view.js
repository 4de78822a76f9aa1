// Shows a text as one shaded span per character, each with a popover; spans are added in batches.

import { levelOf } from "./surprise.js";

// Browsers lay out a whole paragraph again when it grows: a text longer than this number of characters grows in larger
// steps, the longer it is, so that the page stays responsive.
const SMOOTH = 2000;
const WAIT_PER_CHARACTER = 0.05; // milliseconds

export class TextView {
  #element;
  #popover;
  #records = new Map();
  #waiting = [];
  #timer = 0;
  #frame = 0;

  /** `element` contains only the text's spans; `popover` shows the details of one. */
  constructor(element, popover) {
    this.#element = element;
    this.#popover = popover;
    this.characters = [];
    element.addEventListener("pointerover", (event) => this.#point(event));
    element.addEventListener("pointerout", (event) => event.pointerType !== "touch" && popover.hideSoon());
    element.addEventListener("click", (event) => this.#records.has(event.target) && this.#enter(event.target, true));
    element.addEventListener("focusin", (event) => popover.show(event.target, this.#records.get(event.target)));
    element.addEventListener("focusout", () => popover.hide());
    element.addEventListener("keydown", (event) => this.#move(event));
  }

  get text() {
    return this.characters.map((one) => one.char).join("");
  }

  /** Add characters; they appear soon. */
  add(characters) {
    this.characters.push(...characters);
    this.#waiting.push(...characters);
    const wait = WAIT_PER_CHARACTER * Math.max(0, this.characters.length - SMOOTH);
    this.#timer ||= setTimeout(() => (this.#frame = requestAnimationFrame(() => this.flush())), wait);
  }

  /** Show added characters now. */
  flush() {
    clearTimeout(this.#timer);
    cancelAnimationFrame(this.#frame);
    this.#timer = this.#frame = 0;
    const batch = document.createDocumentFragment();
    for (const record of this.#waiting) {
      const span = document.createElement("span");
      span.textContent = record.char;
      span.className = record.logProb === null ? "unknown" : `b${levelOf(record.logProb)}`;
      if (record.char === "\n") span.classList.add("newline");
      this.#records.set(span, record);
      batch.append(span);
    }
    this.#waiting = [];
    const first = this.#element.firstChild ?? batch.firstChild;
    this.#element.append(batch);
    if (first && !this.#element.querySelector("[tabindex]")) first.tabIndex = 0;
  }

  /** Keep the first `length` characters only. */
  cut(length) {
    this.flush();
    this.#popover.hide();
    this.characters.length = length;
    if (length === 0) {
      this.#records.clear();
      this.#element.replaceChildren();
      return;
    }
    while (this.#element.childNodes.length > length) {
      this.#records.delete(this.#element.lastChild);
      this.#element.lastChild.remove();
    }
    if (!this.#element.querySelector("[tabindex]")) this.#element.firstChild.tabIndex = 0;
  }

  #point(event) {
    if (event.pointerType === "touch" || !this.#records.has(event.target)) return;
    this.#popover.show(event.target, this.#records.get(event.target));
  }

  /** Make `span` the one that Tab reaches, and focus it. */
  #enter(span, preventScroll = false) {
    this.#element.querySelector("[tabindex]")?.removeAttribute("tabindex");
    span.tabIndex = 0;
    span.focus({ preventScroll });
  }

  #move(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.#records.has(event.target)) return;
    const to = {
      ArrowRight: () => event.target.nextElementSibling,
      ArrowLeft: () => event.target.previousElementSibling,
      ArrowDown: () => lineNeighbour(event.target, "nextElementSibling"),
      ArrowUp: () => lineNeighbour(event.target, "previousElementSibling"),
      Home: () => this.#element.firstElementChild,
      End: () => this.#element.lastElementChild,
    }[event.key];
    if (!to) return;
    event.preventDefault();
    const span = to();
    if (span) this.#enter(span);
  }
}

/** The span on the next (or previous) line that is nearest to `span`, or null. */
function lineNeighbour(span, step) {
  const from = span.getBoundingClientRect();
  let line = null;
  let best = null;
  let distance = Infinity;
  for (let other = span[step]; other; other = other[step]) {
    const box = other.getClientRects()[0];
    if (!box || Math.abs(box.top - from.top) < from.height / 2) continue;
    line ??= box.top;
    if (Math.abs(box.top - line) > from.height / 2) break;
    if (Math.abs(box.left - from.left) < distance) {
      distance = Math.abs(box.left - from.left);
      best = other;
    }
  }
  return best;
}
