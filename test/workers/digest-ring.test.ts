import { describe, expect, it } from 'vitest';
import { diskDigest } from '../../src/node/disk-digest.ts';
import { DigestInOrder } from '../../src/operations/disk-digest.ts';
import { DigestRing, DigestTaker } from '../../src/workers/digest-ring.ts';
import { WorkShare } from '../../src/workers/work-share.ts';
import { makeContent } from '../support/data.ts';

const PART = 4096;
const CONTENT = makeContent('random', 12 * PART, 5);

/** A digest, who takes it, and a thread that hands parts over. */
function ring() {
  const share = new WorkShare();
  const digest = diskDigest('sha256');
  const own = DigestRing.create(share, PART);
  const taker = new DigestTaker(own, new DigestInOrder(digest, () => {}));
  const other = new DigestRing(new WorkShare(share.state), own.state);
  const part = (i: number): Uint8Array => CONTENT.subarray(i * PART, (i + 1) * PART);
  const put = (i: number): Promise<void> => other.put(i, i * PART, part(i), PART);
  const read = (i: number): Promise<void> => taker.read(i, i * PART, part(i));
  return { share, digest, taker, other, put, read };
}

function expected(parts: number): string {
  const digest = diskDigest('sha256');
  digest.add(CONTENT.subarray(0, parts * PART), parts * PART);
  return digest.end();
}

describe('the ring of a digest', () => {
  it('takes parts in their order, however they come', async () => {
    const { digest, taker, other, put, read } = ring();
    await put(2);
    await read(1);
    expect(digest.position).toBe(0);
    await put(3);
    expect([3, 4].map((i) => other.hasRoom(i))).toEqual([true, false]);
    await put(0);
    await taker.take();
    expect(digest.position).toBe(4 * PART);
    await read(4);
    expect(digest.position).toBe(5 * PART);
    expect(digest.end()).toBe(expected(5));
  });

  it('lets who is far ahead wait for room, the one that takes the digest too', async () => {
    const { digest, taker, put, read } = ring();
    const order: string[] = [];
    const note = (what: string) => (): void => void order.push(what);
    for (const i of [1, 2, 3]) await put(i);
    const far = read(4).then(note('own'));
    setTimeout(() => void put(0).then(note('late')), 10);
    await far;
    expect(order).toEqual(['late', 'own']);
    for (const i of [5, 6, 7, 8]) await put(i);
    const waiting = put(9).then(note('room'));
    await taker.take();
    await waiting;
    await taker.take();
    expect(digest.position).toBe(10 * PART);
    expect(digest.end()).toBe(expected(10));
  });

  it('ends all waiting once stopped', async () => {
    const { share, put, read } = ring();
    for (const i of [1, 2, 3]) await put(i);
    setTimeout(() => share.stop(), 10);
    await expect(put(4)).rejects.toThrow('stopped');
    await expect(read(4)).rejects.toThrow('stopped');
  });
});
