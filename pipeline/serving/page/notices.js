// Shows status messages, and errors with what the user can do about them.

import { Failure } from "./failure.js";
import { hasKey, keepKey } from "./model.js";
import { count } from "./words.js";

const WORDS = {
  refused: (message) => `This was refused. ${message}`,
  large: () => "That is more text than the server accepts at once. Shorten it and try again.",
  busy: () => "The server is busy with other texts.",
  unavailable: (message) => `The server cannot handle this now. ${message}`,
  silent: () => "The server does not answer. Check that “charlm serve” is still running, then try again.",
  broken: () => "The connection was lost before the end. The text so far is still here.",
  other: (message) => `Something went wrong. ${message}`,
};

export class Notices {
  #part = (id) => document.getElementById(id);
  #retry = null;
  #timer = 0;

  /** `onKey` is called when a key was entered. */
  constructor(onKey) {
    this.#part("retry").addEventListener("click", () => this.#again());
    this.#part("dismiss").addEventListener("click", () => this.clear());
    this.#part("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      keepKey(this.#part("key").value);
      this.#part("key").value = "";
      onKey();
      this.#again();
    });
  }

  /** Show the notices in `slot` from now on. */
  moveTo(slot) {
    this.clear();
    this.status("");
    slot.append(this.#part("notices"));
  }

  status(text) {
    this.#part("status").textContent = text;
  }

  clear() {
    clearInterval(this.#timer);
    const error = this.#part("error");
    if (error.contains(document.activeElement)) error.closest('[role="tabpanel"]').querySelector(".primary").focus();
    error.hidden = true;
    this.#part("error-text").textContent = "";
  }

  /** Show an error; `retry` repeats what failed. */
  error(error, retry) {
    this.clear();
    this.#retry = retry;
    const failure = error instanceof Failure ? error : new Failure("other", error.message);
    const needsKey = failure.kind === "key";
    this.#part("key-form").hidden = !needsKey;
    this.#part("retry").hidden = needsKey;
    this.#part("error-count").hidden = true;
    this.#part("error").hidden = false;
    this.#part("error-text").textContent = needsKey ? keyWords() : WORDS[failure.kind](sentence(failure.message));
    if (failure.wait) this.#countDown(Math.ceil(failure.wait));
  }

  #countDown(seconds) {
    const line = this.#part("error-count");
    const end = performance.now() + 1000 * seconds;
    const tick = () => {
      const left = Math.ceil((end - performance.now()) / 1000);
      if (left <= 0) clearInterval(this.#timer);
      line.textContent = left > 0 ? `Please wait ${count(left, "second")}.` : "You can try again now.";
    };
    line.hidden = false;
    tick();
    this.#timer = setInterval(tick, 250);
  }

  #again() {
    this.clear();
    this.#retry();
  }
}

function keyWords() {
  return hasKey() ? "The server does not accept this key. Enter another one." : "This server needs a key. It is saved until you close this tab.";
}

/** A message, as a sentence. */
function sentence(message) {
  const text = message.charAt(0).toUpperCase() + message.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
