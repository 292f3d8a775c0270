import type { ScalarMemory } from './memory.ts';

// A counter is two u32 halves; `high` is 0 for all orders but 6.

/** Greatest value of the low half. */
function lowMaximum(order: number): number {
  return order >= 5 ? 0xffffffff : 2 ** (1 << order) - 1;
}

function getHigh({ view }: ScalarMemory, block: number, order: number, index: number): number {
  return order === 6 ? view.getUint32(block + index * 8) : 0;
}

function getLow({ view }: ScalarMemory, block: number, order: number, index: number): number {
  if (order === 6) return view.getUint32(block + index * 8 + 4);
  if (order === 5) return view.getUint32(block + index * 4);
  if (order === 4) return view.getUint16(block + index * 2);
  if (order === 3) return view.getUint8(block + index);
  const bit = index << order;
  return (view.getUint8(block + (bit >> 3)) >> (bit & 7)) & lowMaximum(order);
}

/** Whether a counter is 1. */
export function isOne(memory: ScalarMemory, block: number, order: number, index: number): boolean {
  return getLow(memory, block, order, index) === 1 && getHigh(memory, block, order, index) === 0;
}

function set(
  { view }: ScalarMemory,
  block: number,
  order: number,
  index: number,
  high: number,
  low: number,
): void {
  if (order === 6) {
    view.setUint32(block + index * 8, high);
    view.setUint32(block + index * 8 + 4, low);
  } else if (order === 5) view.setUint32(block + index * 4, low);
  else if (order === 4) view.setUint16(block + index * 2, low);
  else if (order === 3) view.setUint8(block + index, low);
  else {
    const bit = index << order;
    const at = block + (bit >> 3);
    const mask = lowMaximum(order) << (bit & 7);
    view.setUint8(at, (view.getUint8(at) & ~mask) | (low << (bit & 7)));
  }
}

function fits(order: number, high: number, low: number): boolean {
  return order === 6 || (high === 0 && low <= lowMaximum(order));
}

/** Twin of `refcount_unpack`. */
export function unpack(
  memory: ScalarMemory,
  block: number,
  order: number,
  first: number,
  count: number,
  out: number,
): void {
  for (let i = 0; i < count; i++) {
    memory.view.setUint32(out + i * 8, getLow(memory, block, order, first + i), true);
    memory.view.setUint32(out + i * 8 + 4, getHigh(memory, block, order, first + i), true);
  }
}

/** Twin of `refcount_pack`. */
export function pack(
  memory: ScalarMemory,
  block: number,
  order: number,
  first: number,
  count: number,
  values: number,
): number {
  const { view } = memory;
  const low = (i: number): number => view.getUint32(values + i * 8, true);
  const high = (i: number): number => view.getUint32(values + i * 8 + 4, true);
  for (let i = 0; i < count; i++) {
    if (!fits(order, high(i), low(i))) return first + i;
  }
  for (let i = 0; i < count; i++) set(memory, block, order, first + i, high(i), low(i));
  return -1;
}

/** Twin of `refcount_fill`. */
export function fill(
  memory: ScalarMemory,
  block: number,
  order: number,
  first: number,
  count: number,
  value: number,
): number {
  if (!Number.isInteger(value) || value < 0 || value >= 2 ** 64) return 1;
  const high = Math.floor(value / 2 ** 32);
  const low = value % 2 ** 32;
  if (!fits(order, high, low)) return 1;
  for (let i = 0; i < count; i++) set(memory, block, order, first + i, high, low);
  return 0;
}

/** Twin of `refcount_add`. */
export function add(
  memory: ScalarMemory,
  block: number,
  order: number,
  first: number,
  count: number,
  delta: number,
): number {
  const amount = Math.trunc(Math.abs(delta));
  const high = Math.floor(amount / 2 ** 32);
  const low = amount % 2 ** 32;
  const maximum = lowMaximum(order);
  const highMaximum = order === 6 ? 0xffffffff : 0;
  for (let i = first; i < first + count; i++) {
    // Room in the direction of the change.
    let roomHigh = getHigh(memory, block, order, i);
    let roomLow = getLow(memory, block, order, i);
    if (delta >= 0) {
      roomHigh = highMaximum - roomHigh;
      roomLow = maximum - roomLow;
    }
    if (high > roomHigh || (high === roomHigh && low > roomLow)) return i;
  }
  const sign = delta < 0 ? -1 : 1;
  for (let i = first; i < first + count; i++) {
    const sum = getLow(memory, block, order, i) + sign * low;
    const carry = Math.floor(sum / 2 ** 32);
    const newHigh = getHigh(memory, block, order, i) + sign * high + carry;
    set(memory, block, order, i, newHigh, sum - carry * 2 ** 32);
  }
  return -1;
}

/** Twin of `refcount_compare`. */
export function compare(
  memory: ScalarMemory,
  a: number,
  b: number,
  order: number,
  first: number,
  count: number,
): number {
  for (let i = first; i < first + count; i++) {
    if (getLow(memory, a, order, i) !== getLow(memory, b, order, i)) return i;
    if (getHigh(memory, a, order, i) !== getHigh(memory, b, order, i)) return i;
  }
  return -1;
}

/** Twin of `refcount_scan`. */
export function scan(
  memory: ScalarMemory,
  block: number,
  order: number,
  first: number,
  count: number,
  zero: number,
): number {
  for (let i = first; i < first + count; i++) {
    const isZero = getLow(memory, block, order, i) === 0 && getHigh(memory, block, order, i) === 0;
    if (isZero === (zero !== 0)) return i;
  }
  return -1;
}
