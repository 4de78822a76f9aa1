// The popover of a character: how likely it was, and which others the model considered.

import { bitsOf } from "./surprise.js";
import { decimal, nameOf, percent, visible } from "./words.js";

const MARGIN = 8;
// Long enough to move the pointer from the character to the popover.
const LINGER = 150;

export class Popover {
  #element;
  #anchor = null;
  #timer = 0;

  constructor(element) {
    this.#element = element;
    element.addEventListener("pointerenter", () => clearTimeout(this.#timer));
    element.addEventListener("pointerleave", () => this.hideSoon());
    window.addEventListener("scroll", () => this.#follow(), { passive: true });
    window.addEventListener("resize", () => this.hide());
    document.addEventListener("pointerdown", (event) => {
      if (!element.contains(event.target) && event.target !== this.#anchor) this.hide();
    });
  }

  /** Show the popover of the character in `anchor`. */
  show(anchor, record) {
    if (!record) return;
    this.hide();
    this.#anchor = anchor;
    anchor.setAttribute("aria-describedby", this.#element.id);
    this.#element.replaceChildren(...contentOf(record));
    this.#element.hidden = false;
    this.#place();
  }

  hide() {
    clearTimeout(this.#timer);
    this.#anchor?.removeAttribute("aria-describedby");
    this.#anchor = null;
    this.#element.hidden = true;
  }

  /** Hide after a delay, unless the pointer returns or the character has the focus. */
  hideSoon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#anchor !== document.activeElement && this.hide(), LINGER);
  }

  #follow() {
    if (!this.#anchor) return;
    if (this.#anchor === document.activeElement) this.#place();
    else this.hide();
  }

  #place() {
    const at = this.#anchor.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.#element;
    const room = document.documentElement.clientWidth - width - MARGIN;
    const left = Math.max(MARGIN, Math.min(room, at.left + at.width / 2 - width / 2));
    const below = at.bottom + MARGIN;
    const top = below + height > window.innerHeight && at.top - MARGIN - height > 0 ? at.top - MARGIN - height : below;
    this.#element.style.left = `${left}px`;
    this.#element.style.top = `${top}px`;
  }
}

function contentOf({ char, logProb, alternatives }) {
  const head = make("div", "popover-head");
  head.append(make("b", "popover-char", visible(char)), make("span", "dim", nameOf(char)));
  if (logProb === null) return [head, make("p", "", "The model does not know this character. It is left out.")];
  const figures = make("p", "popover-figures");
  figures.append(make("b", "", percent(Math.exp(logProb))), ` likely, ${decimal(bitsOf(logProb))} bits`);
  head.append(figures);
  if (!alternatives.length) return [head];
  const list = make("ul", "bars");
  const rivals = alternatives.some(([one]) => one === char) ? alternatives : [...alternatives, [char, logProb]];
  for (const [one, itsLogProb] of rivals) list.append(bar(one, Math.exp(itsLogProb), one === char));
  return [head, list];
}

function bar(char, probability, isChosen) {
  const row = make("li", isChosen ? "chosen" : "");
  const track = make("span", "track");
  const fill = make("span", "fill");
  fill.style.width = `${Math.min(100, 100 * probability)}%`;
  track.append(fill);
  const shown = make("span", "bar-char", visible(char));
  if (isChosen) shown.append(make("span", "visually-hidden", " (this one)"));
  row.append(shown, track, make("span", "bar-figure", percent(probability)));
  return row;
}

function make(tag, className, text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = text;
  return element;
}
