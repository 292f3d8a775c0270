// Tells data that compression would not shorten from a sample of it: such data costs next to nothing.

// @ts-ignore: decorator
@inline const STRIDE: usize = 512;
/** Bytes looked at in each stride. */
// @ts-ignore: decorator
@inline const SAMPLE: usize = 64;
/** Strides between two looks at the counts. */
// @ts-ignore: decorator
@inline const STEP: usize = 4 * STRIDE;
/** Shorter data is not sampled: the sample would say too little. */
// @ts-ignore: decorator
@inline const SHORTEST: usize = 2 * STEP;

const COUNTS = memory.data(256 << 1, 16);

/** Whether the 4 bytes at `at` stand at an earlier stride of the window, too. */
function isRepeated(at: usize, start: usize): bool {
  const word = load<u32>(at);
  for (let distance = STRIDE; distance <= 8 * STRIDE && at - start >= distance; distance += STRIDE) {
    if (load<u32>(at - distance) == word) return true;
  }
  return false;
}

/**
 * Whether the bytes `at .. to` look like noise: all values equally frequent (the sum of the squares
 * of the counts stays within five standard deviations), and no sector like an earlier one.
 * @param start start of the source
 */
export function isNoise(start: usize, at: usize, to: usize): bool {
  if (to - at < SHORTEST) return false;
  memory.fill(COUNTS, 0, 256 << 1);
  let samples: u64 = 0;
  let squares: u64 = 0;
  for (let step = at; to - step >= STEP; step += STEP) {
    for (let from = step; from < step + STEP; from += STRIDE) {
      if (isRepeated(from, start)) return false;
      for (let i = from; i < from + SAMPLE; i++) {
        const count = COUNTS + (<usize>load<u8>(i) << 1);
        const before = <u32>load<u16>(count);
        squares += 2 * before + 1;
        store<u16>(count, before + 1);
      }
    }
    samples += <u64>((STEP / STRIDE) * SAMPLE);
    if (squares > (samples * (samples + 370)) >> 8) return false;
  }
  return true;
}
