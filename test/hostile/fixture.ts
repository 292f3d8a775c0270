import * as fs from 'node:fs';
import * as path from 'node:path';
import { buildImage, type ImageSpec, type SmallImage } from './builder.ts';

/**
 * What notices the damage first: opening; `info`, which reads the tables that only it shows;
 * mapping, with which backing and data files are opened; reading data. `never`: it is tolerated.
 */
export type Stage = 'open' | 'metadata' | 'map' | 'read' | 'never';

/** The folders a fixture may fill. */
export class World {
  /** The image's folder, whose tree is open to it. */
  readonly folder: string;
  /** A folder beside it, full of secrets. */
  readonly outside: string;

  constructor(root: string) {
    this.folder = path.join(root, 'images');
    this.outside = path.join(root, 'outside');
    for (const folder of [this.folder, this.outside]) fs.mkdirSync(folder, { recursive: true });
    fs.writeFileSync(path.join(this.outside, 'secret.raw'), 'the secret'.padEnd(4096, '!'));
    const secret = buildImage({ clusters: 'HH' });
    fs.writeFileSync(path.join(this.outside, 'secret.qcow2'), secret.bytes);
  }

  /** Path of a file in the image's folder. */
  path(name: string): string {
    return path.join(this.folder, name);
  }

  put(name: string, content: SmallImage | Uint8Array | string): void {
    fs.mkdirSync(path.dirname(this.path(name)), { recursive: true });
    const bytes =
      typeof content === 'string' || content instanceof Uint8Array ? content : content.bytes;
    fs.writeFileSync(this.path(name), bytes);
  }

  link(name: string, target: string): void {
    fs.mkdirSync(path.dirname(this.path(name)), { recursive: true });
    fs.symlinkSync(target, this.path(name));
  }
}

/** A damaged or hostile image. Its name says what has to come of it. */
export interface Fixture {
  /** `what is wrong → CODE structure`, or `→ READS` for what a reader tolerates. */
  readonly name: string;
  readonly stage: Stage;
  /** Only `info` is asked: the image is not read without a key. */
  readonly encrypted?: boolean;
  /** Makes the image; other files go into the world. */
  readonly make: (world: World) => SmallImage;
}

/** What the name of a fixture says has to come of it. */
export interface Expected {
  readonly code: string | undefined;
  readonly structure: string;
}

/** Reads a fixture's name. */
export function expectedOf({ name }: Fixture): Expected {
  const outcome = name.split(' → ')[1] ?? '';
  const [, code = '', structure = ''] = /^([A-Z_0-9]+) ?(.*)$/.exec(outcome) ?? [];
  return code === 'READS' ? { code: undefined, structure: '' } : { code, structure };
}

/** A row of a list of damages: a name, and what is done to a built image. */
export type Damage = readonly [
  name: string,
  damage: (image: SmallImage, world: World) => void,
  spec?: ImageSpec,
];

/** Fixtures of one stage from a list of damages. */
export function damages(stage: Stage, rows: readonly Damage[], common: ImageSpec = {}): Fixture[] {
  return rows.map(([name, damage, spec]) => ({
    name,
    stage: name.endsWith('→ READS') ? 'never' : stage,
    encrypted: (spec ?? common).luks !== undefined,
    make: (world) => {
      const image = buildImage({ ...common, ...spec });
      damage(image, world);
      return image;
    },
  }));
}
