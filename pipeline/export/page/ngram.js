// The n-gram model: builds its trie from its text, and reads texts with it. The same counts and formulas as
// pipeline/ngram/ngram.py and kernels.py, which explain them.

// States of a reader: a node, or ON_TEXT - i where only position i of the text ends with what was read.
const [ROOT, NONE, UNIQUE, ON_TEXT] = [0, -1, -2, -2];
const COUNT_GROUPS = 6;
const FLOOR = 1e-30;

export class Ngram {
  /** `text`: ids; `discounts` [longest + 1, 4]; `weights` [groups, 2]; `nodes`: the number of distinct grams. */
  constructor({ text, discounts, weights, nodes, begin, uniform }) {
    Object.assign(this, { text, discounts, weights, begin, uniform });
    this.longest = discounts.length / 4 - 1;
    this.parent = new Int32Array(nodes);
    this.symbol = new Int32Array(nodes);
    this.counts = new Int32Array(nodes);
    this.where = new Int32Array(nodes);
    this.totals = new Int32Array(nodes);
    this.reserved = new Float64Array(nodes);
    // The children of a node: its first one, and the next one with the same parent; 0 if there is none.
    this.child = new Int32Array(nodes);
    this.sibling = new Int32Array(nodes);
    // A hash table of nodes by parent and symbol, at most half full.
    this.mask = 2 ** Math.ceil(Math.log2(2 * nodes)) - 1;
    this.table = new Int32Array(this.mask + 1);
    this.#sum(this.#count(nodes));
  }

  /** Count the grams of the text, level by level; returns each level's first node. */
  #count(nodes) {
    const { text, begin, parent, symbol, counts, where } = this;
    const occurrences = new Int32Array(nodes);
    occurrences[ROOT] = 2;
    const own = new Int32Array(text.length); // the node of the gram that ends at each position
    const levels = [0, 1];
    let size = 1;
    for (let level = 1; level <= this.longest; level++) {
      for (let i = text.length - 1; i >= 0; i--) {
        const shorter = own[i];
        if (shorter === NONE) continue;
        const prefix = i > 0 ? own[i - 1] : level === 1 ? ROOT : NONE;
        if (level > 1 && text[i] === begin) {
          own[i] = NONE; // no gram extends over the start of a document
          continue;
        }
        let isNew = true;
        if (prefix === NONE) own[i] = NONE;
        else if (prefix === UNIQUE || occurrences[prefix] === 1) own[i] = UNIQUE;
        else {
          const row = this.#row(prefix, text[i]);
          let node = this.table[row];
          isNew = node === 0;
          if (isNew) {
            node = this.table[row] = size++;
            parent[node] = prefix;
            symbol[node] = text[i];
            where[node] = i;
          }
          occurrences[node]++;
          own[i] = node;
        }
        if (isNew && shorter >= 0) counts[shorter]++; // one more left neighbour
      }
      levels.push(size);
    }
    for (let node = levels[this.longest]; node < size; node++) counts[node] = occurrences[node];
    for (let node = 0; node < size; node++) if (occurrences[node] !== 1) where[node] = -1 - where[node];
    return levels;
  }

  /** Link the children of each node, and sum their counts and discounts. */
  #sum(levels) {
    for (let level = this.longest; level >= 1; level--) {
      for (let node = levels[level + 1] - 1; node >= levels[level]; node--) {
        const above = this.parent[node];
        this.sibling[node] = this.child[above];
        this.child[above] = node;
        if (this.symbol[node] === this.begin) continue; // never predicted
        this.totals[above] += this.counts[node];
        this.reserved[above] += this.discounts[4 * level + Math.min(this.counts[node], 3)];
      }
    }
  }

  /** The row of the table that has the gram of `node` and `symbol`, or the empty one where it belongs. */
  #row(node, symbol) {
    const { table, mask, parent } = this;
    let at = Math.imul(Math.imul(node, 0x9e3779b1) + symbol, 0x85ebca6b);
    at = (at ^ (at >>> 15)) & mask;
    while (table[at] !== 0 && (parent[table[at]] !== node || this.symbol[table[at]] !== symbol)) at = (at + 1) & mask;
    return at;
  }

  /** The states of a reader that has read nothing; the last element is their number. */
  start() {
    const states = new Int32Array(this.longest + 1);
    states[this.longest] = 1;
    return states;
  }

  /** Update the `states` of a reader by `symbol`. */
  advance(states, symbol) {
    const depth = states[this.longest];
    let carried = ROOT;
    let deepest = 1;
    for (let k = 0; k < depth; k++) {
      const state = states[k];
      states[k] = carried;
      carried = NONE;
      if (state >= 0) {
        const node = this.table[this.#row(state, symbol)];
        if (node !== 0) carried = this.where[node] < 0 ? node : ON_TEXT - this.where[node];
      } else if (this.#follows(state) && this.text[ON_TEXT - state + 1] === symbol) {
        carried = state - 1;
      }
      if (carried !== NONE) deepest = k + 2;
    }
    if (depth < this.longest) states[depth] = carried;
    states[this.longest] = Math.min(deepest, this.longest);
  }

  /** Fill `probs` with the probability of each id after `states`; returns the group of the context. */
  spread(states, probs) {
    let share = 1; // of the shorter contexts
    let [length, count] = [0, 0];
    probs.fill(0);
    for (let k = states[this.longest] - 1; k >= 0; k--) {
      const state = states[k];
      if (state >= 0) {
        const total = this.totals[state];
        if (total === 0) continue;
        if (count === 0) [length, count] = [k, total];
        for (let node = this.child[state]; node !== 0; node = this.sibling[node]) {
          const own = this.counts[node];
          probs[this.symbol[node]] += (share * (own - this.discounts[4 * k + 4 + Math.min(own, 3)])) / total;
        }
        share *= this.reserved[state] / total;
      } else if (this.#follows(state)) {
        if (count === 0) [length, count] = [k, 1];
        const discount = this.discounts[4 * k + 5];
        probs[this.text[ON_TEXT - state + 1]] += share * (1 - discount);
        share *= discount;
      }
    }
    for (let i = 0; i < probs.length; i++) probs[i] += share * this.uniform;
    probs[0] = 0;
    if (this.begin >= 0) probs[this.begin] = 0;
    return length * COUNT_GROUPS + Math.min(COUNT_GROUPS - 1, 31 - Math.clz32(count || 1));
  }

  /** Replace the network's `logits` by those of network and n-gram model together. `share` scales the latter's part. */
  mix(states, share, logits, probs) {
    const group = this.spread(states, probs);
    const own = Math.fround(1 + share * (this.weights[2 * group] - 1));
    const other = share * this.weights[2 * group + 1];
    for (let i = 0; i < logits.length; i++) logits[i] = own * logits[i] + other * Math.log(Math.max(probs[i], FLOOR));
  }

  #follows(state) {
    const i = ON_TEXT - state + 1;
    return i < this.text.length && this.text[i] !== this.begin;
  }
}
