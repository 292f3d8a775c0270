// What a row is held to. A goal has a measured value and the most (or least) that reaches it.

/**
 * @typedef {object} Goal
 * @property {'time' | 'size' | 'peak' | 'speed' | 'rate'} kind time and size are shares of theirs,
 * speed is a multiple of theirs; peak is in bytes; rate is work in a second
 * @property {string} [of] the contender it is measured against
 * @property {number} measured
 * @property {number} goal
 * @property {boolean} isReached
 */

/** Kinds that want more; the others want less. */
const MORE = ['speed', 'rate'];

/** @returns {Goal} */
export function goalOf(kind, of, measured, goal) {
  const isReached = MORE.includes(kind) ? measured >= goal : measured <= goal;
  return { kind, ...(of && { of }), measured, goal, isReached };
}

/** A goal in words, without whether it was reached. */
export function goalText({ kind, of, measured, goal }) {
  switch (kind) {
    case 'time':
      return `${measured.toFixed(2)} of the time of ${of}, goal ${goal.toFixed(2)}`;
    case 'size':
      return `${measured.toFixed(4)} of the size of ${of}, goal ${goal}`;
    case 'peak':
      return `${mebibytes(measured)} MiB at the peak, goal ${mebibytes(goal)}`;
    case 'speed':
      return `${measured.toFixed(2)}x the speed of ${of}, goal ${goal}x`;
    default:
      return `${(measured / 1e9).toPrecision(3)} G/s, goal ${goal / 1e9} G/s`;
  }
}

export function mebibytes(bytes) {
  return (bytes / 2 ** 20).toFixed(0);
}

/** The goals of a row that it misses. */
export function missed({ goals }) {
  return goals.filter(({ isReached }) => !isReached);
}
