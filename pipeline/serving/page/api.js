// The client of the server's HTTP API: requests, responses, and the kinds of failure.

import { eventsOf } from "./events.js";
import { Failure } from "./failure.js";

const KEY = "charlm-key";
// The number of alternatives requested for each character.
const ALTERNATIVES = 5;

const KINDS = new Map([
  [400, "refused"],
  [401, "key"],
  [413, "large"],
  [422, "refused"],
  [429, "busy"],
  [503, "unavailable"],
]);

export function hasKey() {
  return sessionStorage.getItem(KEY) !== null;
}

export function keepKey(key) {
  sessionStorage.setItem(KEY, key);
}

/** The model's card. */
export async function readCard() {
  return readJson(await ask("/card", {}));
}

/** Yield {characters, reason} as the model generates; `request` has the options. `signal` ends it.
 *  `reason` is null until the text is over, then "length" or "stop". */
export async function* write(request, signal) {
  const response = await complete({ ...request, logprobs: ALTERNATIVES, stream: true }, signal);
  try {
    for await (const data of eventsOf(response.body)) {
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Failure("other", event.error.message);
      const [{ logprobs, finish_reason: reason }] = event.choices;
      yield { characters: charactersOf(logprobs), reason };
    }
  } catch (error) {
    if (error instanceof Failure || error.name === "AbortError") throw error;
    throw new Failure("broken", error.message);
  }
  throw new Failure("broken", "the stream ended early");
}

/** How likely each character of `text` is to the model: {characters, warnings}. */
export async function score(text, signal) {
  const request = { prompt: text, max_tokens: 0, echo: true, logprobs: ALTERNATIVES, stream: false };
  const answer = await readJson(await complete(request, signal));
  return { characters: charactersOf(answer.choices[0].logprobs), warnings: answer.warnings ?? [] };
}

function complete(request, signal) {
  return ask("/v1/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(request),
    signal,
  });
}

async function ask(path, { headers = {}, ...options }) {
  const key = sessionStorage.getItem(KEY);
  let response;
  try {
    response = await fetch(path, { ...options, headers: key ? { ...headers, Authorization: `Bearer ${key}` } : headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("silent", error.message);
  }
  if (response.ok) return response;
  const failure = (await response.json().catch(() => null))?.error;
  throw new Failure(KINDS.get(response.status) ?? "other", failure?.message ?? `the server answered ${response.status}`, {
    param: failure?.param,
    wait: Number.parseFloat(response.headers.get("Retry-After")) || null,
  });
}

async function readJson(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("broken", error.message);
  }
}

/** The API's `logprobs` as a list of {char, logProb, alternatives}; logProb is null where the model does not know. */
function charactersOf(logprobs) {
  if (!logprobs) return [];
  return logprobs.tokens.map((char, at) => ({
    char,
    logProb: logprobs.token_logprobs[at],
    alternatives: Object.entries(logprobs.top_logprobs?.[at] ?? {}).sort((a, b) => b[1] - a[1]),
  }));
}
