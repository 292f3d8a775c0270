import { printable } from '../../src/errors.ts';
import { resolveUrl } from '../../src/storage/http-url.ts';
import { alertLine, h, note } from '../dom.ts';
import type { ChainFile } from '../model/open-files.ts';
import { sizeText } from '../model/sizes.ts';
import { Superseded } from '../worker/client.ts';
import { messageOf, type Session, type View } from './session.ts';

/** The image and the files it names, as a tree: what each is, and whether it was given. */
export const showFiles: View = async (panel, session) => {
  const { chain, unused } = session.opened;
  const levels = new Map<number, ChainFile[]>();
  for (const file of chain) levels.set(file.depth, [...(levels.get(file.depth) ?? []), file]);
  const isLacking = chain.some(({ refusal }) => refusal !== undefined);
  const boxes = (files: readonly ChainFile[]) => files.map((file) => fileBox(file, session));
  panel.replaceChildren(
    h(
      'ol',
      { class: 'chain' },
      ...Array.from(levels.values(), (files) => h('li', {}, ...boxes(files))),
    ),
    note(
      isLacking
        ? 'A file that an image names is read only if you give it. Nothing else is looked for.'
        : 'These are all files the disk consists of.',
    ),
    ...(unused.length > 0 ? [note(`Not part of this image: ${unused.join(', ')}`)] : []),
  );
};

function fileBox(file: ChainFile, session: Session): HTMLElement {
  const { role, name, refusal, format, virtualSize, fileSize, namedBy } = file;
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
    namedBy === undefined ? null : giveForm(name, session, session.given[namedBy]?.source),
  );
}

/** Takes a file for a name, or its URL. @param above what names it */
function giveForm(name: string, session: Session, above: File | string | undefined): HTMLElement {
  const error = h('p', {});
  const give = async (source: File | string): Promise<void> => {
    form.setAttribute('aria-busy', 'true');
    error.replaceChildren();
    try {
      await session.give({ source, as: name });
    } catch (failure) {
      if (!(failure instanceof Superseded)) error.replaceChildren(alertLine(messageOf(failure)));
    } finally {
      form.removeAttribute('aria-busy');
    }
  };
  const picker = h('input', {
    type: 'file',
    class: 'away',
    'aria-label': `File for ${printable(name)}`,
  });
  picker.addEventListener('change', () => {
    const file = picker.files?.[0];
    if (file !== undefined) give(file);
  });
  // Beside the image, if that has a URL; asked for only when a person says so.
  const near = typeof above === 'string' ? resolveUrl(name, above, [new URL('/', above)]) : null;
  const url = h('input', {
    inputmode: 'url',
    placeholder: 'https://…',
    'aria-label': `URL of ${printable(name)}`,
    spellcheck: 'false',
    autocomplete: 'off',
    required: true,
    value: near?.href,
  });
  const submit = (event: Event): void => {
    event.preventDefault();
    give(url.value.trim());
  };
  const form = h(
    'form',
    { class: 'row give', onsubmit: submit },
    h('label', { class: 'button' }, 'Choose file…', picker),
    url,
    h('button', { type: 'submit' }, 'Open URL'),
  );
  return h('div', {}, form, error);
}
