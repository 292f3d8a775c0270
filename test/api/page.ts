import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ADAPTERS, type Exported, exportsOf, root } from './exports.ts';

/** The declaration of an export as it is published: to its `;` or to the brace that closes it. */
function declarationOf({ name, file }: Exported): string {
  const text = readFileSync(join(root, file), 'utf8');
  const pattern = new RegExp(
    `^export (?:declare )?(?:abstract )?(class|function|const|interface|type) ${name}\\b`,
    'gm',
  );
  return [...text.matchAll(pattern)]
    .map(({ 0: start, 1: kind, index }) => {
      const rest = text.slice(index);
      const isBlock = kind === 'class' || kind === 'interface';
      const end = isBlock ? rest.search(/\{\s*\}$|^\}/m) : rest.search(/;$/m);
      const length = isBlock ? rest.indexOf('}', end) + 1 : end + 1;
      return rest
        .slice(0, Math.max(length, start.length))
        .replace(/^export (declare )?/, '')
        .replace(/^ *private .*;\n/gm, '')
        .replace(/^ *#private;\n/gm, '');
    })
    .join('\n');
}

/** A docstring as Markdown: text, what is thrown, examples. */
function docOf({ doc }: Exported): string {
  const [text = '', ...tags] = doc.split(/^(?=@\w+)/m);
  const parts = tags.map((tag) => {
    const [, name = '', body = ''] = /^@(\w+)\s*([\s\S]*)$/.exec(tag) ?? [];
    if (name === 'example') return `\`\`\`ts\n${body.trim()}\n\`\`\``;
    const words = body.trim().replace(/\s+/g, ' ');
    if (name === 'param') return `- ${words.replace(/^(\w+) /, '`$1`: ')}`;
    return `${name === 'throws' ? 'Throws' : 'Returns'} ${words}`;
  });
  return [text.trim().replace(/\{@link (\w+)\}/g, '`$1`'), ...parts].filter(Boolean).join('\n\n');
}

function section(title: string, intro: string, exported: readonly Exported[]): string[] {
  const isType = ({ kind }: Exported): boolean => kind === 'interface' || kind === 'type';
  const ordered = [...exported.filter((each) => !isType(each)), ...exported.filter(isType)];
  return [
    `## ${title}`,
    intro,
    ...ordered.flatMap((each) => [
      `### \`${each.name}\``,
      docOf(each),
      `\`\`\`ts\n${declarationOf(each)}\n\`\`\``,
    ]),
  ];
}

/** The page of the public API, from the declarations that are published. */
export function apiPage(): string {
  const everywhere = exportsOf('dist/index.d.ts');
  const more = exportsOf('dist/node.d.ts').filter(
    ({ name }) => !everywhere.some((other) => other.name === name),
  );
  const intro =
    'Everything the package exports, as it is declared. Offsets, lengths and sizes are in bytes if nothing else is said. Errors are `Qcow2Error`, whose `code` is named where it is thrown. The examples are run by the tests.';
  const parts = [
    '# API',
    intro,
    ...section(
      '`qcow2`: everywhere',
      'In Node, browsers and workers; `qcow2/slim` has the same.',
      everywhere,
    ),
    ...section('`qcow2`: in Node', 'Besides the above: files, threads and batches.', more),
    ...ADAPTERS.flatMap((name) =>
      section(
        `\`qcow2/${name}\``,
        'In Node, browsers and workers.',
        exportsOf(`dist/${name}.d.ts`),
      ),
    ),
  ];
  return `${parts.join('\n\n')}\n`;
}
