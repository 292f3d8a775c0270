import { describe, expect, it } from 'vitest';
import { readAhead } from '../../src/operations/read-ahead.ts';

/** Pieces `0` to before `count`; fails at the end if it is told to. */
async function* pieces(count: number, error?: Error): AsyncGenerator<number> {
  for (let i = 0; i < count; i++) yield i;
  if (error) throw error;
}

const later = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 2));

/** Reads and writes pieces, and tells what happened in which order. */
async function copy(
  source: AsyncIterable<number>,
  fail: { read?: number; write?: number } = {},
): Promise<{ events: string[]; error: unknown }> {
  const events: string[] = [];
  const read = async (piece: number, buffer: string): Promise<void> => {
    events.push(`read ${piece} ${buffer}`);
    await later();
    events.push(`has ${piece}`);
    if (piece === fail.read) throw new Error('read failed');
  };
  try {
    for await (const { piece, buffer } of readAhead(source, ['A', 'B'], read)) {
      events.push(`write ${piece} ${buffer}`);
      if (piece === fail.write) throw new Error('write failed');
      await later();
      await later();
      events.push(`wrote ${piece}`);
    }
    return { events, error: undefined };
  } catch (error) {
    return { events, error };
  } finally {
    events.push('end');
  }
}

describe('pieces are read ahead', () => {
  it('one piece, into the buffer that is not being written, and all in order', async () => {
    const { events } = await copy(pieces(5));
    const index = (event: string): number => {
      expect(events).toContain(event);
      return events.indexOf(event);
    };
    const buffers = ['A', 'B', 'A', 'B', 'A'];
    for (let i = 0; i < 5; i++) {
      expect(index(`write ${i} ${buffers[i]}`)).toBeGreaterThan(index(`has ${i}`));
      if (i > 0) expect(index(`write ${i} ${buffers[i]}`)).toBeGreaterThan(index(`wrote ${i - 1}`));
      // It is under way while the piece before is written, and not sooner.
      if (i > 0) expect(index(`read ${i} ${buffers[i]}`)).toBeLessThan(index(`wrote ${i - 1}`));
      if (i > 1) expect(index(`read ${i} ${buffers[i]}`)).toBeGreaterThan(index(`wrote ${i - 2}`));
    }
  });

  it('none and one', async () => {
    expect((await copy(pieces(0))).events).toEqual(['end']);
    const { events } = await copy(pieces(1));
    expect(events).toEqual(['read 0 A', 'has 0', 'write 0 A', 'wrote 0', 'end']);
  });

  it('what comes before a read that fails is written, nothing behind it is read', async () => {
    const { events, error } = await copy(pieces(5), { read: 2 });
    expect(error).toEqual(new Error('read failed'));
    expect(events).toContain('wrote 1');
    expect(events.some((event) => event.includes('3'))).toBe(false);
  });

  it('no read is under way any more after a failure', async () => {
    const ends = [copy(pieces(5), { write: 1 }), copy(pieces(3, new Error('no more')))];
    for (const { events, error } of await Promise.all(ends)) {
      expect(error).toBeInstanceOf(Error);
      const began = events.filter((event) => event.startsWith('read')).length;
      expect(events.filter((event) => event.startsWith('has')).length).toBe(began);
      expect(events.at(-1)).toBe('end');
    }
  });
});
