// The model in this page: the same functions as the server's API has (api.js), answered by a worker. The page carries
// the model and the worker's code as text, so nothing is requested from anywhere.

import { Failure } from "./failure.js";
import { count } from "./words.js";

// At most this many unknown characters are named.
const SHOWN = 10;

const worker = new Worker(URL.createObjectURL(new Blob([contentOf("worker")], { type: "text/javascript" })));
const waiting = new Map(); // the queue of each text's messages, by its number
let questions = 0;
let symbols = [];

const loaded = new Promise((resolve, reject) => {
  worker.addEventListener("error", (event) => reject(new Failure("other", event.message)));
  worker.addEventListener("message", ({ data }) => {
    if (data.number !== null) waiting.get(data.number)?.put(data);
    else if (data.error) reject(new Failure("other", data.error));
    else resolve(data);
  });
});
loaded.then((model) => ({ symbols } = model), () => {});
const payload = Uint8Array.from(atob(contentOf("payload")), (char) => char.charCodeAt(0));
worker.postMessage({ payload }, [payload.buffer]);

function contentOf(id) {
  const element = document.getElementById(id);
  const text = element.textContent;
  element.remove();
  return text;
}

/** There are no keys here. */
export const hasKey = () => false;
export const keepKey = () => {};

/** The model's card. */
export async function readCard() {
  return (await loaded).card;
}

/** Yield {characters, reason} as the model generates; `request` has the options. `signal` ends it.
 *  `reason` is null until the text is over, then "length" or "stop". */
export async function* write(request, signal) {
  for await (const message of ask({ write: request }, signal)) {
    yield { characters: charactersOf(message), reason: message.reason };
    if (message.reason) return;
  }
}

/** How likely each character of `text` is to the model: {characters, warnings}. */
export async function score(text, signal) {
  const known = [];
  for await (const message of ask({ score: text }, signal)) {
    if (message.done) break;
    known.push(...charactersOf(message));
  }
  const unknown = { logProb: null, alternatives: [] };
  let at = 0;
  // The model skips what it does not know.
  const characters = [...text].map((char) => (known[at]?.char === char ? known[at++] : { char, ...unknown }));
  const dropped = characters.filter((one) => one.logProb === null).map((one) => one.char);
  const lacking = [...new Set(dropped)].slice(0, SHOWN).join(" ");
  const warning = `dropped ${count(dropped.length, "character")} that the model does not know: ${lacking}`;
  return { characters, warnings: dropped.length ? [warning] : [] };
}

/** Yield the worker's answers to `question`. */
async function* ask(question, signal) {
  await loaded;
  signal.throwIfAborted();
  const number = questions++;
  const queue = new Queue();
  waiting.set(number, queue);
  const stop = () => {
    worker.postMessage({ stop: number });
    queue.put(null);
  };
  signal.addEventListener("abort", stop);
  worker.postMessage({ number, ...question });
  try {
    for (;;) {
      const message = await queue.take();
      signal.throwIfAborted();
      if (message.error) throw new Failure(message.param ? "refused" : "other", message.error, { param: message.param });
      yield message;
    }
  } finally {
    signal.removeEventListener("abort", stop);
    waiting.delete(number);
  }
}

class Queue {
  #messages = [];
  #wake = () => {};

  put(message) {
    this.#messages.push(message);
    this.#wake();
  }

  async take() {
    while (!this.#messages.length) await new Promise((resolve) => (this.#wake = resolve));
    return this.#messages.shift();
  }
}

function charactersOf({ text, logProbs, rivals, rivalLogProbs }) {
  const each = text.length ? rivals.length / text.length : 0;
  return Array.from(text, (id, at) => ({
    char: symbols[id],
    logProb: logProbs[at],
    alternatives: Array.from({ length: each }, (_, rank) => [
      symbols[rivals[each * at + rank]], rivalLogProbs[each * at + rank],
    ]),
  }));
}
