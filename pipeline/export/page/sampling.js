// Chooses the next character. The rules and their order are those of pipeline/params/sampling.py.

const LOWEST_TEMPERATURE = 1e-30;

// A number of 64 bits, as its lower and upper half.
let low = 0;
let high = 0;

/** The random number in [0, 1) for position `position` of a text with `seed`: SplitMix64, in numbers of 32 bits. */
export function uniform(seed, position) {
  [low, high] = [(position + 1) >>> 0, 0];
  multiply(0x7f4a7c15, 0x9e3779b9);
  low += seed % 2 ** 32;
  high = (high + Math.floor(seed / 2 ** 32) + (low >= 2 ** 32 ? 1 : 0)) >>> 0;
  low >>>= 0;
  shift(30);
  multiply(0x1ce4e5b9, 0xbf58476d);
  shift(27);
  multiply(0x133111eb, 0x94d049bb);
  shift(31);
  // The upper 53 bits.
  return (high * 2 ** 21 + (low >>> 11)) / 2 ** 53;
}

/** Multiply the number by another. */
function multiply(otherLow, otherHigh) {
  const [a, b, c, d] = [low & 0xffff, low >>> 16, otherLow & 0xffff, otherLow >>> 16];
  const middle = b * c + ((a * c) >>> 16);
  const carried = a * d + (middle & 0xffff);
  const top = b * d + Math.floor(middle / 2 ** 16) + Math.floor(carried / 2 ** 16);
  high = (top + Math.imul(low, otherHigh) + Math.imul(high, otherLow)) >>> 0;
  low = Math.imul(low, otherLow) >>> 0;
}

/** z ^ (z >> bits), for bits below 32. */
function shift(bits) {
  low = (low ^ ((low >>> bits) | (high << (32 - bits)))) >>> 0;
  high = (high ^ (high >>> bits)) >>> 0;
}

/** The id of the next character. `logits` are changed; `text` has the options and what was written; `number` is in
 *  [0, 1); `exponentials(logits, least, factor)` returns exp((logits - least) * factor). */
export function choose(logits, text, number, exponentials) {
  const { options, allowed, bias, counts } = text;
  if (options.repetition_penalty !== 1) penalise(logits, text.recent, options.repetition_penalty);
  if (bias) for (let i = 0; i < logits.length; i++) logits[i] += bias[i];
  if (options.frequency_penalty !== 0 || options.presence_penalty !== 0) {
    for (let i = 0; i < logits.length; i++) {
      if (counts[i]) logits[i] -= options.frequency_penalty * counts[i] + options.presence_penalty;
    }
  }
  let likeliest = 0;
  let best = -Infinity;
  for (let i = 0; i < logits.length; i++) if (allowed[i] && logits[i] > best) best = logits[(likeliest = i)];
  if (options.temperature === 0) return likeliest;
  const probs = exponentials(logits, best, 1 / Math.max(options.temperature, LOWEST_TEMPERATURE));
  for (let i = 0; i < probs.length; i++) if (!allowed[i]) probs[i] = 0;
  probs[likeliest] = 1;
  truncate(probs, options.top_k, options.top_p);
  // Relative to the likeliest, which has 1.
  if (options.min_p > 0) for (let i = 0; i < probs.length; i++) if (probs[i] < options.min_p) probs[i] = 0;
  let total = 0;
  for (let i = 0; i < probs.length; i++) total += probs[i];
  const wanted = number * total;
  let reached = 0;
  let last = likeliest;
  for (let i = 0; i < probs.length; i++) {
    if (probs[i] === 0) continue;
    reached += probs[i];
    last = i;
    if (reached > wanted) break;
  }
  return last;
}

function penalise(logits, recent, penalty) {
  for (const id of new Set(recent)) logits[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty;
}

/** Set to 0 what is not among the `topK` likeliest, and not in the nucleus of `topP` of what these leave. */
function truncate(probs, topK, topP) {
  if (!(topK > 0 && topK < probs.length) && topP >= 1) return;
  const order = [...probs.keys()].sort((a, b) => probs[b] - probs[a]); // stable: lower ids first among equals
  let few = topK > 0 ? Math.min(topK, order.length) : order.length;
  if (topP < 1) {
    let total = 0;
    for (let at = 0; at < few; at++) total += probs[order[at]];
    let reached = 0;
    for (let at = 0; at < few; at++) {
      reached += probs[order[at]];
      if (reached >= topP * total) few = at + 1;
    }
  }
  for (const id of order.slice(few)) probs[id] = 0;
}
