import { describe, expect, it } from 'vitest';
import { isQcow2Error } from '../../src/errors.ts';
import { MemoryStorage } from '../../src/storage/memory.ts';
import { RecordingStorage, StorageLog } from '../../src/storage/recording.ts';
import type { Storage } from '../../src/storage/storage.ts';

/** Memory whose calls end when they are told to. */
class SlowStorage extends MemoryStorage {
  readonly waiting: (() => void)[] = [];

  override write(offset: number, from: Uint8Array): Promise<void> {
    const done = new Promise<void>((resolve) => this.waiting.push(resolve));
    return done.then(() => super.write(offset, from));
  }

  override flush(): Promise<void> {
    return new Promise<void>((resolve) => this.waiting.push(resolve));
  }
}

describe('RecordingStorage', () => {
  it('passes calls on and logs those that change, with copies of the bytes', async () => {
    const inner = new MemoryStorage(new Uint8Array(4), 'disk');
    const storage = new RecordingStorage(inner);
    const bytes = Uint8Array.of(1, 2);
    await storage.write(3, bytes);
    bytes.fill(9);
    await storage.truncate(8);
    await storage.flush();
    expect(storage.read(0, new Uint8Array(8))).toBe(8);
    expect([...inner.bytes]).toEqual([0, 0, 0, 1, 2, 0, 0, 0]);
    expect(storage.size).toBe(8);
    expect(storage.log.events).toEqual([
      { file: 'disk', kind: 'write', offset: 3, bytes: Uint8Array.of(1, 2) },
      { file: 'disk', kind: 'truncate', size: 8 },
      { file: 'disk', kind: 'flush', pending: [] },
    ]);
    storage.log.clear();
    expect(storage.log.events).toEqual([]);
  });

  it('has the optional calls of the storage below, and no others', async () => {
    const least = { size: 0, read: () => 0, write: () => {}, truncate: () => {}, close: () => {} };
    const plain = new RecordingStorage(least);
    expect([plain.punchHole, plain.allocate, plain.extents, plain.identity]).toEqual(
      Array.from({ length: 4 }),
    );
    const inner: Storage = Object.assign(new MemoryStorage(new Uint8Array(9)), {
      identity: 'one',
      punchHole: () => {},
      allocate: () => {},
      extents: () => [{ offset: 0, length: 9, data: true }],
    });
    const storage = new RecordingStorage(inner);
    await storage.punchHole?.(1, 2);
    await storage.allocate?.(3, 4);
    expect(storage.identity).toBe('one');
    expect(await storage.extents?.(0, 9)).toHaveLength(1);
    expect(storage.log.events).toEqual([
      { file: 'memory', kind: 'punchHole', offset: 1, length: 2 },
      { file: 'memory', kind: 'allocate', offset: 3, length: 4 },
    ]);
  });

  it('tells what a flush does not promise: what had not ended, and what began meanwhile', async () => {
    const inner = new SlowStorage();
    const storage = new RecordingStorage(inner);
    const byte = new Uint8Array(1);
    const writes = [storage.write(0, byte), storage.write(1, byte)];
    inner.waiting[0]?.();
    await writes[0];
    const flush = storage.flush();
    const late = storage.write(2, byte);
    for (const end of inner.waiting) end();
    await Promise.all([...writes, flush, late]);
    const event = storage.log.events.at(-1);
    const pending = event?.kind === 'flush' ? event.pending : [];
    expect(pending.map((change) => ('offset' in change ? change.offset : -1))).toEqual([1, 2]);
  });

  it('shares a log, and a flush speaks of its own file alone', async () => {
    const log = new StorageLog();
    const [a, b] = ['a', 'b'].map(
      (name) => new RecordingStorage(new MemoryStorage(new Uint8Array(0), name), log),
    );
    await a?.write(0, new Uint8Array(1));
    await b?.truncate(5);
    await a?.flush();
    expect(log.events.map(({ file, kind }) => `${file} ${kind}`)).toEqual([
      'a write',
      'b truncate',
      'a flush',
    ]);
  });

  it('logs a change that fails, not a flush that fails', async () => {
    const failing: Storage = {
      size: 0,
      read: () => 0,
      write: () => Promise.reject(new Error('full')),
      truncate: () => {},
      flush: () => Promise.reject(new Error('lost')),
      close: () => {},
    };
    const storage = new RecordingStorage(failing);
    await expect(storage.write(0, new Uint8Array(1))).rejects.toThrow('full');
    await expect(storage.flush()).rejects.toThrow('lost');
    expect(storage.log.events.map(({ kind }) => kind)).toEqual(['write']);
  });

  it('keeps no more bytes than allowed, and refuses what cannot be written to', async () => {
    const inner = new MemoryStorage();
    const storage = new RecordingStorage(inner, new StorageLog({ maxBytes: 10 }));
    await storage.write(0, new Uint8Array(8));
    const codeOf = (error: unknown) => (isQcow2Error(error) ? error.code : error);
    expect(attempt(() => storage.write(8, new Uint8Array(3)), codeOf)).toBe('TOO_LARGE');
    expect(inner.size).toBe(8);
    const readOnly = { size: 0, read: () => 0, close: () => {} };
    expect(attempt(() => new RecordingStorage(readOnly), codeOf)).toBe('INVALID_ARGUMENT');
  });
});

function attempt(work: () => unknown, failed: (error: unknown) => unknown): unknown {
  try {
    return work();
  } catch (error) {
    return failed(error);
  }
}
