/** Milliseconds of the past that a rate is taken over. */
const WINDOW = 5000;

/** How fast work goes, and how long the rest will take. */
export class RateMeter {
  /** Milliseconds and bytes, the oldest first. */
  #samples: { at: number; done: number }[] = [];
  #phase: unknown;

  /**
   * @param phase another one begins anew
   * @param at milliseconds
   * @returns bytes a second and seconds left; null while there is nothing to tell them by
   */
  update(
    phase: unknown,
    at: number,
    done: number,
    total: number,
  ): { rate: number | null; eta: number | null } {
    if (phase !== this.#phase) this.#samples = [];
    this.#phase = phase;
    this.#samples.push({ at, done });
    while (this.#samples.length > 2 && at - this.#samples[0]!.at > WINDOW) this.#samples.shift();
    const { at: from, done: before } = this.#samples[0]!;
    if (at === from || done === before) return { rate: null, eta: null };
    const rate = (done - before) / ((at - from) / 1000);
    const eta = Math.round((10 * (total - done)) / rate) / 10;
    return { rate: Math.round(rate), eta: Number.isFinite(eta) ? eta : null };
  }
}
