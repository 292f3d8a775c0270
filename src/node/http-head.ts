/** The head of an answer. */
export interface HttpHead {
  status: number;
  /** By names in small letters; fields of one name are one list. */
  headers: ReadonlyMap<string, string>;
  /** Bytes of the body. Undefined for bodies that have no such length, or none that counts. */
  length: number | undefined;
  /** Whether the connection stays open for another request. */
  staysOpen: boolean;
}

const STATUS_LINE = /^HTTP\/1\.1 ([2-5]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?$/;
const FIELD = /^([\w!#$%&'*+.^`|~-]+):[\t ]*([\t\x20-\x7e\x80-\xff]*?)[\t ]*$/;

/**
 * Reads the head of an answer to GET as every server of today writes it. Undefined for all that is in
 * any way out of the ordinary, good or bad: older versions, interim answers, folded lines, stray characters.
 * @param text one character per byte, without the empty line
 */
export function parseHead(text: string): HttpHead | undefined {
  const [first = '', ...lines] = text.split('\r\n');
  const [, status] = STATUS_LINE.exec(first) ?? [];
  if (status === undefined) return undefined;
  const headers = new Map<string, string>();
  for (const line of lines) {
    const [, field, value = ''] = FIELD.exec(line) ?? [];
    if (field === undefined) return undefined;
    const name = field.toLowerCase();
    const before = headers.get(name);
    headers.set(name, before === undefined ? value : `${before}, ${value}`);
  }
  const connection = headers.get('connection')?.toLowerCase();
  const staysOpen = connection === undefined || connection === 'keep-alive';
  return { status: Number(status), headers, length: bodyLength(headers), staysOpen };
}

function bodyLength(headers: ReadonlyMap<string, string>): number | undefined {
  const length = headers.get('content-length');
  if (length === undefined || !/^\d{1,15}$/.test(length)) return undefined;
  return headers.has('transfer-encoding') ? undefined : Number(length);
}
