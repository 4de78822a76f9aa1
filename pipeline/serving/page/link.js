// Saves the page's state in the address, after the #, and copies links to it.

// Browsers limit how often the address may change.
const PAUSE = 400;
let timer = 0;

/** The state in the address, as an object of strings, or null if there is none. */
export function readLink() {
  const hash = location.hash.slice(1);
  return hash ? Object.fromEntries(new URLSearchParams(hash)) : null;
}

/** Put what `stateOf` returns into the address, soon. */
export function keepLink(stateOf) {
  clearTimeout(timer);
  timer = setTimeout(() => history.replaceState(null, "", hashOf(stateOf())), PAUSE);
}

/** Copy a link to `state`, and return whether that worked. The link is in the address bar, too. */
export async function copyLink(state) {
  clearTimeout(timer);
  history.replaceState(null, "", hashOf(state));
  try {
    await navigator.clipboard.writeText(location.href);
    return true;
  } catch {
    return copyByHand(location.href);
  }
}

function hashOf(state) {
  return `#${new URLSearchParams(state)}`;
}

/** For pages not served from localhost or over https, which may not use the clipboard API. */
function copyByHand(text) {
  const back = document.activeElement;
  const field = Object.assign(document.createElement("textarea"), { value: text, className: "visually-hidden" });
  document.body.append(field);
  field.select();
  const worked = document.execCommand("copy");
  field.remove();
  back?.focus();
  return worked;
}
