import fc from 'fast-check';

/** Words, runs and copies from before: what matches are made of. */
export const structured = fc
  .array(
    fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 40 }),
      fc.tuple(fc.nat(255), fc.integer({ min: 1, max: 600 })),
      fc.tuple(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 3, max: 700 }), fc.nat(3)),
    ),
    { maxLength: 120 },
  )
  .map((parts) => {
    const bytes: number[] = [];
    for (const part of parts) {
      if (part instanceof Uint8Array) bytes.push(...part);
      else if (part.length === 2) for (let i = 0; i < part[1]; i++) bytes.push(part[0]);
      else {
        const distance = Math.min(part[0], bytes.length);
        if (distance === 0) continue;
        for (let i = 0; i < part[1]; i++) bytes.push(bytes[bytes.length - distance] as number);
        if (part[2] === 0) bytes.push(255);
      }
    }
    return Uint8Array.from(bytes);
  });
