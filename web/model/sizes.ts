const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** Bytes in the largest unit they fill, with at most two decimals. */
export function sizeText(bytes: number): string {
  let unit = 0;
  while (unit < UNITS.length - 1 && bytes >= 1024 ** (unit + 1)) unit++;
  const value = bytes / 1024 ** unit;
  const decimals = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  const text = String(Number(value.toFixed(decimals)));
  return `${text} ${bytes === 1 ? 'byte' : UNITS[unit]}`;
}

/** A number with its thousands set apart. */
export function countText(count: number): string {
  return count.toLocaleString('en-GB');
}

/** A count and what is counted: `1 run`, `2 runs`. */
export function plural(count: number, one: string, many = `${one}s`): string {
  return `${countText(count)} ${count === 1 ? one : many}`;
}

/** A share of a whole in percent; what is there is never shown as nothing. */
export function shareText(part: number, whole: number): string {
  if (part === 0 || whole === 0) return '0 %';
  const percent = (part / whole) * 100;
  if (percent < 0.1) return '< 0.1 %';
  return `${percent >= 10 ? Math.round(percent) : Number(percent.toFixed(1))} %`;
}

/** Bytes as hexadecimal digits, in groups of `group`. */
export function hexBytes(bytes: Uint8Array, group = 1): string {
  const parts: string[] = [];
  for (let at = 0; at < bytes.length; at += group)
    parts.push(
      Array.from(bytes.subarray(at, at + group), (b) => b.toString(16).padStart(2, '0')).join(''),
    );
  return parts.join(' ');
}

/** What a person typed as an offset: decimal, `0x` hexadecimal, or with a unit (`4K`, `1.5 GiB`). */
export function parseOffset(text: string): number | undefined {
  const trimmed = text.trim().replaceAll(/[_,]/g, '');
  if (/^0x[0-9a-f]+$/i.test(trimmed)) return checked(Number.parseInt(trimmed.slice(2), 16));
  const found = /^(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?$/i.exec(trimmed);
  if (found === null) return undefined;
  const power = ' kmgtp'.indexOf((found[2] ?? '').toLowerCase() || ' ');
  return checked(Math.floor(Number(found[1]) * 1024 ** power));
}

function checked(value: number): number | undefined {
  return Number.isSafeInteger(value) ? value : undefined;
}
