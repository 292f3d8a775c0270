import { h, note } from '../dom.ts';
import type { ChainFile } from '../model/open-files.ts';
import { sizeText } from '../model/sizes.ts';
import type { View } from './session.ts';

/** The image and the files it names, as a tree: what each is, and whether it was given. */
export const showFiles: View = async (panel, { opened }) => {
  const { chain, unused } = opened;
  const levels = new Map<number, ChainFile[]>();
  for (const file of chain) levels.set(file.depth, [...(levels.get(file.depth) ?? []), file]);
  const isLacking = chain.some(({ refusal }) => refusal !== undefined);
  panel.replaceChildren(
    h(
      'ol',
      { class: 'chain' },
      ...Array.from(levels.values(), (files) => h('li', {}, ...files.map(fileBox))),
    ),
    note(
      isLacking
        ? 'Files that an image names are read only if you open them together with it. Nothing else is looked for.'
        : 'These are all files the disk consists of.',
    ),
    ...(unused.length > 0 ? [note(`Not part of this image: ${unused.join(', ')}`)] : []),
  );
};

function fileBox({ role, name, refusal, format, virtualSize, fileSize }: ChainFile): HTMLElement {
  const facts = [
    format,
    virtualSize === undefined ? undefined : `disk of ${sizeText(virtualSize)}`,
    fileSize === undefined ? undefined : `file of ${sizeText(fileSize)}`,
  ];
  const state = role === 'image' ? 'opened' : refusal === undefined ? 'given by you' : 'not opened';
  return h(
    'article',
    { class: refusal === undefined ? 'file' : 'file lacking' },
    h('p', { class: 'role' }, role, h('span', { class: 'state' }, state)),
    h('h3', {}, name),
    h('p', {}, facts.filter((text) => text !== undefined).join(', ')),
    refusal === undefined ? null : h('p', { class: 'why' }, refusal),
  );
}
