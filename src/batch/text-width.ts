const graphemes = new Intl.Segmenter('en', { granularity: 'grapheme' });

/** East Asian wide and fullwidth characters, and pictures: two columns on a terminal. */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u;
const INVISIBLE = /^[\p{Mark}\p{Cf}]+$/u;

/** Columns that text without control characters takes on a terminal. */
export function textWidth(text: string): number {
  let width = 0;
  for (const { segment } of graphemes.segment(text)) width += graphemeWidth(segment);
  return width;
}

function graphemeWidth(grapheme: string): number {
  if (INVISIBLE.test(grapheme)) return 0;
  return WIDE.test(grapheme) ? 2 : 1;
}

/** Text in exactly `width` columns: filled up with spaces, or cut. Of a path the end says most. */
export function fitText(text: string, width: number): string {
  const length = textWidth(text);
  if (length <= width) return text + ' '.repeat(width - length);
  if (width < 1) return '';
  const kept: string[] = [];
  let left = width - 1;
  for (const { segment } of [...graphemes.segment(text)].reverse()) {
    left -= graphemeWidth(segment);
    if (left < 0) {
      left += graphemeWidth(segment);
      break;
    }
    kept.unshift(segment);
  }
  return `…${kept.join('')}${' '.repeat(left)}`;
}
