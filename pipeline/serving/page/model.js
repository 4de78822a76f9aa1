// What the page needs of a model. `charlm serve` answers with its API. A page of `charlm export` has another file of this
// name (pipeline/export/page/model.js), with the same functions: there the model is in the page.
//
//   readCard() -> card                                     write(request, signal) yields {characters, reason}
//   score(text, signal) -> {characters, warnings}          hasKey() and keepKey(key), for a server that needs a key

export { hasKey, keepKey, readCard, score, write } from "./api.js";
