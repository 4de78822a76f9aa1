// Measures surprise: bits, levels of shading, perplexity; detects whether a text ends in a loop.

const TOP_LEVEL = 10;

// Fewer matching characters could be chance.
const LOOP_MATCHES = 40;
const LONGEST_LOOP = 400;

/** -log2 of a probability that is given as its natural logarithm. */
export function bitsOf(logProb) {
  return Math.max(0, -logProb / Math.LN2);
}

/** The level of a character's shade: one for each bit. */
export function levelOf(logProb) {
  return Math.min(TOP_LEVEL, Math.round(bitsOf(logProb)));
}

/** Mean bits, perplexity and counts of some characters; those that the model does not know are left out of the mean. */
export function summaryOf(characters) {
  const known = characters.filter((one) => one.logProb !== null);
  const bits = known.length ? known.reduce((sum, one) => sum + bitsOf(one.logProb), 0) / known.length : null;
  return {
    count: characters.length,
    unknown: characters.length - known.length,
    bits,
    perplexity: bits === null ? null : 2 ** bits,
  };
}

/** The loop that the characters end in, as {period, start}, or null. */
export function endingLoop(characters) {
  const chars = characters.map((one) => one.char);
  for (let period = 1; period <= Math.min(LONGEST_LOOP, chars.length / 3); period++) {
    let at = chars.length - 1;
    while (at >= period && chars[at] === chars[at - period]) at--;
    const matches = chars.length - 1 - at;
    if (matches >= Math.max(2 * period, LOOP_MATCHES)) return { period, start: at + 1 - period };
  }
  return null;
}
