import type { Geometry } from '../format/geometry.ts';
import { type OperationControl, pacer } from './control.ts';

/** Bytes of an image are handed over in pieces of at most so many, but for one cluster or table. */
export const PIECE_BYTES = 2 * 1024 * 1024;

/** Bytes nobody else holds. */
export type Piece = Uint8Array<ArrayBuffer>;

/** Where pieces come from; what they hold is undefined. */
export type NewPiece = (length: number) => Piece;

/** A new image that is known so far that its length is. */
export interface PlannedStream {
  /** Bytes that will come. */
  readonly length: number;
  /** The image, front to back; can be walked once. */
  pieces(): AsyncGenerator<Piece, void, undefined>;
}

/** Tells how far a stream is, ends it when that is wanted, and gives it its pieces. */
export class StreamSteps {
  readonly newPiece: NewPiece;
  readonly #control: OperationControl;
  readonly #pause: () => void | Promise<void>;
  readonly #total: number;
  #before = 0;

  /** @param passes how often the disk is read, @param size of the disk in bytes */
  constructor(
    control: OperationControl,
    size: number,
    passes: number,
    newPiece: NewPiece = (length) => new Uint8Array(length),
  ) {
    this.newPiece = newPiece;
    this.#control = control;
    this.#pause = pacer(control.signal, 'the conversion');
    this.#total = size * passes;
  }

  /** Called between two pieces of work. @throws Qcow2Error ABORTED */
  readonly pause = (): void | Promise<void> => this.#pause();

  /** @param done guest bytes of this pass. @throws Qcow2Error ABORTED */
  async reached(done: number): Promise<void> {
    await this.#pause();
    await this.#control.onProgress?.(Math.min(this.#before + done, this.#total), this.#total);
  }

  /** The next pass begins. @param size of the disk in bytes */
  passed(size: number): void {
    this.#before += size;
  }
}

/** A structure that fills whole clusters. */
export function wholeClusters(bytes: Uint8Array, { clusterSize }: Geometry): Piece {
  const whole = new Uint8Array(Math.ceil(bytes.length / clusterSize) * clusterSize);
  whole.set(bytes);
  return whole;
}
