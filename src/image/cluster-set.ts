/** Clusters one page of the set covers. */
const PAGE_CLUSTERS = 32768;

/** A set of host clusters: a bit each, in pages that exist where clusters of the set are. */
export class ClusterSet {
  readonly #pages = new Map<number, Uint32Array>();

  /** Adds (or, with `member` false, removes) a range of clusters. */
  set(first: number, count: number, member: boolean): void {
    for (let cluster = first; cluster < first + count; cluster++) {
      const page = Math.floor(cluster / PAGE_CLUSTERS);
      let words = this.#pages.get(page);
      if (words === undefined) {
        if (!member) continue;
        words = new Uint32Array(PAGE_CLUSTERS / 32);
        this.#pages.set(page, words);
      }
      const bit = cluster % PAGE_CLUSTERS;
      if (member) words[bit >> 5]! |= 1 << (bit & 31);
      else words[bit >> 5]! &= ~(1 << (bit & 31));
    }
  }

  /** The first member in a range; -1 if there is none. */
  firstIn(first: number, count: number): number {
    if (this.#pages.size === 0) return -1;
    const end = first + count;
    for (let cluster = first; cluster < end; ) {
      const page = Math.floor(cluster / PAGE_CLUSTERS);
      const words = this.#pages.get(page);
      const bit = cluster % PAGE_CLUSTERS;
      if (words === undefined) cluster += PAGE_CLUSTERS - bit;
      else {
        const word = words[bit >> 5]! >>> (bit & 31);
        if (word === 0) cluster += 32 - (bit & 31);
        else {
          const found = cluster + (31 - Math.clz32(word & -word));
          return found < end ? found : -1;
        }
      }
    }
    return -1;
  }
}
