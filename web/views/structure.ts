import { code, h, note, table } from '../dom.ts';
import type { ExtensionRow } from '../model/header-rows.ts';
import { plural } from '../model/sizes.ts';
import type { View } from './session.ts';

/** Header fields, feature bits, header extensions. */
export const showStructure: View = async (panel, { opened }) => {
  if (opened.format === 'raw') {
    panel.replaceChildren(
      note('A raw image is the disk itself, byte for byte: it has no structures.'),
    );
    return;
  }
  const { header, features, extensions } = opened;
  const fields = table(
    'Header fields',
    ['Field', 'Byte', 'Stored', 'Meaning'],
    header.map(({ name, offset, value, meaning }) => [
      code(name),
      String(offset),
      code(value),
      meaning,
    ]),
  );
  const bits = table(
    'Feature bits',
    ['Bit', 'Name', 'State'],
    features.map(({ word, bit, name, isSet, isKnown }) => [
      `${word} ${bit}`,
      isKnown ? name : `${name} (not known here)`,
      h('span', { class: isSet ? 'set' : 'unset' }, isSet ? 'set' : 'not set'),
    ]),
  );
  const listed = extensions.length > 0 ? extensions.map(extensionBox) : [note('There are none.')];
  panel.replaceChildren(
    h(
      'div',
      { class: 'columns' },
      h('div', { class: 'column' }, h('h3', {}, 'Header'), fields),
      h(
        'div',
        { class: 'column' },
        h('h3', {}, 'Feature bits'),
        features.length > 0 ? bits : note('Version 2 has none.'),
        h('h3', {}, 'Header extensions'),
        ...listed,
      ),
    ),
  );
};

function extensionBox({ type, name, length, lines, bytes }: ExtensionRow): HTMLElement {
  return h(
    'article',
    { class: 'box' },
    h('h4', {}, name, ' ', h('small', {}, code(type), `, ${plural(length, 'byte')}`)),
    lines.length > 0 ? h('ul', {}, ...lines.map((line) => h('li', {}, line))) : null,
    bytes === undefined ? null : h('p', { class: 'bytes' }, code(bytes)),
  );
}
