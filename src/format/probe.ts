/** Magics of disk image formats this package does not read: never to be taken for raw disks. */
const OTHER_FORMATS: readonly { format: string; at: number; magic: string }[] = [
  { format: 'qcow', at: 0, magic: 'QFI\xfb\0\0\0\x01' },
  { format: 'qed', at: 0, magic: 'QED\0' },
  { format: 'vmdk', at: 0, magic: 'KDMV' },
  { format: 'vmdk', at: 0, magic: 'COWD' },
  { format: 'vmdk', at: 0, magic: '# Disk DescriptorFile' },
  { format: 'vhdx', at: 0, magic: 'vhdxfile' },
  { format: 'vpc', at: 0, magic: 'conectix' },
  { format: 'vdi', at: 0x40, magic: '\x7f\x10\xda\xbe' },
  { format: 'luks', at: 0, magic: 'LUKS\xba\xbe' },
  { format: 'parallels', at: 0, magic: 'WithoutFreeSpace' },
  { format: 'parallels', at: 0, magic: 'WithouFreSpacExt' },
  { format: 'bochs', at: 0, magic: 'Bochs Virtual HD Image' },
];

/** Bytes `probeFormat` wants to see. */
export const PROBE_BYTES = 512;

/**
 * The format the first bytes of a file speak of: qcow2, another known image format by its name, or
 * raw. A guest can write anything into a raw disk, so what is only probed must not open more files.
 * @param bytes the first `PROBE_BYTES` of the file, or all of a shorter one
 */
export function probeFormat(bytes: Uint8Array): string {
  const startsWith = (at: number, magic: string): boolean => {
    for (let i = 0; i < magic.length; i++) if (bytes[at + i] !== magic.charCodeAt(i)) return false;
    return true;
  };
  const other = OTHER_FORMATS.find(({ at, magic }) => startsWith(at, magic));
  if (other) return other.format;
  return startsWith(0, 'QFI\xfb') ? 'qcow2' : 'raw';
}
