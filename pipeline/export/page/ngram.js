// The n-gram model: builds its trie from its text, and reads texts with it. The same counts and formulas as
// pipeline/model/ngram.py and ngram_kernels.py, which explain them.

// States of a reader: a node, or ON_TEXT - i where only position i of the text ends with what was read.
const [ROOT, NONE, UNIQUE, ON_TEXT] = [0, -1, -2, -2];
const COUNT_GROUPS = 6;
const FLOOR = 1e-30;
const IDS = 2 ** 21; // more than there are ids

export class Ngram {
  /** `text`: ids; `discounts` [longest + 1, 4]; `weights` [groups, 2]; `levels`: each length's number of distinct grams. */
  constructor({ text, discounts, weights, levels, begin, uniform }) {
    Object.assign(this, { text, discounts, weights, begin, uniform });
    this.longest = discounts.length / 4 - 1;
    const nodes = levels.reduce((sum, count) => sum + count, 1);
    this.symbol = new Int32Array(nodes);
    this.counts = new Int32Array(nodes);
    this.where = new Int32Array(nodes);
    this.totals = new Int32Array(nodes);
    this.reserved = new Float64Array(nodes);
    // The children of a node: its first one, and the next one with the same parent; 0 if there is none.
    this.child = new Int32Array(nodes);
    this.sibling = new Int32Array(nodes);
    const parent = new Int32Array(nodes);
    this.#sum(parent, this.#count(parent, levels));
  }

  /** Count the grams of the text, level by level; returns each level's first node, and the end. */
  #count(parent, levels) {
    const { text, begin, symbol, counts, where } = this;
    const occurrences = new Int32Array(parent.length);
    occurrences[ROOT] = 2;
    const own = new Int32Array(text.length); // the node of the gram that ends at each position
    const starts = [0, 1];
    for (let level = 1; level <= this.longest; level++) {
      // A hash table of this level's nodes, at most half full, by parent and symbol.
      const mask = 2 ** Math.ceil(Math.log2(2 * levels[level - 1] + 2)) - 1;
      const keys = new Float64Array(mask + 1);
      const nodes = new Int32Array(mask + 1);
      let size = starts[level];
      for (let i = text.length - 1; i >= 0; i--) {
        const shorter = own[i];
        if (shorter === NONE) continue;
        const prefix = i > 0 ? own[i - 1] : level === 1 ? ROOT : NONE;
        const id = text[i];
        if (level > 1 && id === begin) {
          own[i] = NONE; // no gram extends over the start of a document
          continue;
        }
        let isNew = true;
        if (prefix === NONE) own[i] = NONE;
        else if (prefix === UNIQUE || occurrences[prefix] === 1) own[i] = UNIQUE;
        else {
          const key = prefix * IDS + id + 1;
          let row = Math.imul(Math.imul(prefix, 0x9e3779b1) + id, 0x85ebca6b);
          row = (row ^ (row >>> 15)) & mask;
          while (keys[row] !== key && keys[row] !== 0) row = (row + 1) & mask;
          isNew = keys[row] === 0;
          if (isNew) {
            keys[row] = key;
            nodes[row] = size;
            parent[size] = prefix;
            symbol[size] = id;
            where[size++] = i;
          }
          own[i] = nodes[row];
          occurrences[own[i]]++;
        }
        if (isNew && shorter >= 0) counts[shorter]++; // one more left neighbour
      }
      starts.push(size);
    }
    for (let node = starts[this.longest]; node < parent.length; node++) counts[node] = occurrences[node];
    for (let node = 0; node < parent.length; node++) if (occurrences[node] !== 1) where[node] = -1 - where[node];
    return starts;
  }

  /** Link the children of each node, and sum their counts and discounts. */
  #sum(parent, starts) {
    for (let level = this.longest; level >= 1; level--) {
      for (let node = starts[level + 1] - 1; node >= starts[level]; node--) {
        const above = parent[node];
        this.sibling[node] = this.child[above];
        this.child[above] = node;
        if (this.symbol[node] === this.begin) continue; // never predicted
        this.totals[above] += this.counts[node];
        this.reserved[above] += this.discounts[4 * level + Math.min(this.counts[node], 3)];
      }
    }
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
        let node = this.child[state];
        while (node !== 0 && this.symbol[node] !== symbol) node = this.sibling[node];
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
