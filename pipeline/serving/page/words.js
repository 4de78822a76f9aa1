// Formats numbers and characters.

// U+2423 and U+21B5 are in nearly every font; U+2420 is missing from many.
const INVISIBLE = new Map([
  [" ", "␣"],
  ["\n", "↵"],
  ["\t", "⇥"],
  ["\r", "␍"],
  ["\u00a0", "⍽"],
]);
const NAMES = new Map([
  [" ", "space"],
  ["\n", "new line"],
  ["\t", "tab"],
  ["\r", "carriage return"],
  ["\u00a0", "no-break space"],
  ["\u2403", "end of the text"],
]);

/** A character in a visible form. */
export function visible(char) {
  const code = char.codePointAt(0);
  if (INVISIBLE.has(char)) return INVISIBLE.get(char);
  return code < 32 || (code >= 127 && code < 160) ? `U+${code.toString(16).toUpperCase().padStart(4, "0")}` : char;
}

/** The name of an invisible character, or nothing. */
export function nameOf(char) {
  return NAMES.get(char) ?? "";
}

export function count(number, one, many = `${one}s`) {
  return `${whole(number)} ${number === 1 ? one : many}`;
}

export function whole(number) {
  return number.toLocaleString("en");
}

export function decimal(number, places = 2) {
  return number.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places });
}

/** A probability as a percentage that is never rounded to 0. */
export function percent(probability) {
  const value = 100 * probability;
  if (value < 0.01) return "<0.01 %";
  return `${decimal(value, value < 1 ? 2 : value < 99.95 ? 1 : 0)} %`;
}
