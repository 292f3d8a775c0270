import { describe, expect, test } from 'vitest';
import { parseImageOptions } from '../../src/cli/image-options.ts';

describe('--image-opts', () => {
  test('reads a file, its data file and what lies below', () => {
    const text =
      'driver=qcow2,file.driver=file,file.filename=a,,b.qcow2,data-file.filename=d,' +
      'backing.driver=qcow2,backing.file.filename=b,backing.backing.file.filename=c';
    expect(parseImageOptions(text)).toEqual({
      path: 'a,b.qcow2',
      format: 'qcow2',
      dataFile: 'd',
      backingFile: { path: 'b', format: 'qcow2', backingFile: { path: 'c', format: 'raw' } },
    });
  });

  test('takes a file without driver for raw, as qemu-img does', () => {
    expect(parseImageOptions('file.filename=x')).toEqual({ path: 'x', format: 'raw' });
    expect(parseImageOptions('driver=file,filename=x')).toEqual({ path: 'x', format: 'raw' });
    expect(
      parseImageOptions(
        'driver=qcow2,file.filename=x,data-file.driver=raw,data-file.file.filename=d',
      ),
    ).toEqual({ path: 'x', format: 'qcow2', dataFile: 'd' });
  });

  test.each([
    ['driver=qcow2', "'file.filename' is missing"],
    ['a.qcow2', "'a.qcow2' has no value"],
    ['driver=nbd,host=x', "driver 'nbd' is not supported"],
    ['driver=qcow2,file.driver=http,file.filename=x', "file.driver 'http' is not supported"],
    ['driver=qcow2,file.filename=x,foo=1', "key 'foo' is not supported"],
    ['driver=qcow2,file.filename=x,backing.driver=qcow2', "'backing.file.filename' is missing"],
  ])('refuses %s', (text, message) => {
    expect(() => parseImageOptions(text)).toThrow(message);
  });
});
