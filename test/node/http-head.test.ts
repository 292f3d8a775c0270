import { expect, it } from 'vitest';
import { parseHead } from '../../src/node/http-head.ts';

const head = (...lines: string[]) =>
  parseHead(['HTTP/1.1 206 Partial Content', ...lines].join('\r\n'));

it('reads status and headers, lists as one', () => {
  const found = parseHead(
    'HTTP/1.1 206 Part\r\nETag: "a:b"\r\nX:\r\nx-y:\t1 \r\nX-Y: 2\r\nContent-Length: 12',
  );
  expect(found).toMatchObject({ status: 206, length: 12, staysOpen: true });
  expect([...found!.headers]).toEqual([
    ['etag', '"a:b"'],
    ['x', ''],
    ['x-y', '1, 2'],
    ['content-length', '12'],
  ]);
  expect(parseHead('HTTP/1.1 404')?.status).toBe(404);
  expect(head('Connection: close')?.staysOpen).toBe(false);
  expect(head('Connection: Keep-Alive')?.staysOpen).toBe(true);
  expect(head('Connection: upgrade')?.staysOpen).toBe(false);
});

it.each([
  [],
  ['Content-Length: -1'],
  ['Content-Length: 1e3'],
  ['Content-Length: +1'],
  ['Content-Length: 0x10'],
  ['Content-Length: 1', 'Content-Length: 1'],
  ['Content-Length: 12345678901234567890'],
  ['Content-Length: 1', 'Transfer-Encoding: chunked'],
  ['Content-Length: 1', 'Transfer-Encoding: identity'],
])('takes no length from %j', (...lines) => {
  expect(head(...lines)).toMatchObject({ length: undefined });
});

it.each([
  'HTTP/1.0 206 Old',
  'HTTP/1.1 100 Continue',
  'HTTP/1.1 101 Upgrade',
  'HTTP/1.1 2060 Many',
  'HTTP/1.1  206 Space',
  'http/1.1 206 small',
  'HTTP/2 206',
  'SSH-2.0-x',
  '',
  'HTTP/1.1 206 x\ny: z',
  'HTTP/1.1 206 x\r\nno colon',
  'HTTP/1.1 206 x\r\n folded: y',
  'HTTP/1.1 206 x\r\na: b\r\n c',
  'HTTP/1.1 206 x\r\na : b',
  'HTTP/1.1 206 x\r\n: b',
  'HTTP/1.1 206 x\r\na: b\0c',
  'HTTP/1.1 206 x\r\na: b\rc',
  'HTTP/1.1 206 x\r\na: b\nContent-Length: 5',
])('reads nothing out of the ordinary: %j', (text) => {
  expect(parseHead(text)).toBeUndefined();
});
