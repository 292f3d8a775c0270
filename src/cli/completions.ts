import { optionsOf } from './arguments.ts';
import type { OptionSpec } from './option-specs.ts';
import { VERBS, type VerbName } from './options.ts';

/** Shells a completion script can be made for. */
export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/** The completion script of a shell, made from the option table. */
export function completionScript(shell: Shell): string {
  const verbs = Object.keys(VERBS) as VerbName[];
  if (shell === 'bash') return bash(verbs);
  return shell === 'zsh' ? zsh(verbs) : fish(verbs);
}

function shownOptions(verb: VerbName): readonly OptionSpec[] {
  return optionsOf(verb).filter((option) => option.refused === undefined);
}

function spellings({ short, long }: OptionSpec): string[] {
  return [...(short ? [`-${short}`] : []), ...(long ? [`--${long}`] : [])];
}

/** Words an argument is completed with; null means file names. */
function argumentWords({ argument }: OptionSpec): string | null {
  if (argument === 'FMT') return 'qcow2 raw';
  if (argument === 'STYLE') return 'human json';
  return null;
}

function bash(verbs: readonly VerbName[]): string {
  const cases = verbs.map(
    (verb) => `    ${verb}) options='${shownOptions(verb).flatMap(spellings).join(' ')}' ;;`,
  );
  const withWords = (words: string): string => {
    const all = verbs.flatMap((verb) => shownOptions(verb));
    const names = all.filter((option) => argumentWords(option) === words).flatMap(spellings);
    return [...new Set(names)].join('|');
  };
  return `# bash completion of qcow2; source it, or put it into bash-completion's folder.
_qcow2() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} options=
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '${verbs.join(' ')} --help --version' -- "$current"))
    return
  fi
  case "$previous" in
    ${withWords('qcow2 raw')}) COMPREPLY=($(compgen -W 'qcow2 raw' -- "$current")); return ;;
    ${withWords('human json')}) COMPREPLY=($(compgen -W 'human json' -- "$current")); return ;;
  esac
  case "\${COMP_WORDS[1]}" in
${cases.join('\n')}
  esac
  case "$current" in
    -*) COMPREPLY=($(compgen -W "$options --help" -- "$current")) ;;
    *) COMPREPLY=($(compgen -f -- "$current")) ;;
  esac
}
complete -o filenames -F _qcow2 qcow2
`;
}

function zsh(verbs: readonly VerbName[]): string {
  const quote = (text: string): string => text.replaceAll("'", "'\\''").replace(/[[\]:]/g, '\\$&');
  const argument = (option: OptionSpec): string => {
    if (option.argument === undefined) return '';
    const words = argumentWords(option);
    return `:${quote(option.argument)}:${words === null ? '_files' : `(${words})`}`;
  };
  const specs = (verb: VerbName): string =>
    shownOptions(verb)
      .flatMap((option) =>
        spellings(option).map((name) => `'*${name}[${quote(option.help)}]${argument(option)}'`),
      )
      .join(' \\\n        ');
  const cases = verbs.map(
    (verb) =>
      `    ${verb})\n      _arguments -s \\\n        ${specs(verb)} \\\n        '*:file:_files' ;;`,
  );
  const described = verbs.map((verb) => `'${verb}:${quote(VERBS[verb].summary)}'`);
  return `#compdef qcow2
_qcow2() {
  if (( CURRENT == 2 )); then
    local -a verbs=(
      ${described.join('\n      ')}
    )
    _describe verb verbs
    return
  fi
  shift words
  (( CURRENT-- ))
  case $words[1] in
${cases.join('\n')}
  esac
}
compdef _qcow2 qcow2
`;
}

function fish(verbs: readonly VerbName[]): string {
  const quote = (text: string): string => `'${text.replace(/['\\]/g, '\\$&')}'`;
  const lines = verbs.map(
    (verb) =>
      `complete -c qcow2 -n __fish_use_subcommand -f -a ${verb} -d ${quote(VERBS[verb].summary)}`,
  );
  for (const verb of verbs) {
    for (const option of shownOptions(verb)) {
      const words = argumentWords(option);
      const parts = [
        `complete -c qcow2 -n '__fish_seen_subcommand_from ${verb}'`,
        ...(option.short ? [`-s ${option.short}`] : []),
        ...(option.long ? [`-l ${option.long}`] : []),
        ...(option.argument ? ['-r'] : []),
        ...(words ? [`-f -a '${words}'`] : []),
        `-d ${quote(option.help)}`,
      ];
      lines.push(parts.join(' '));
    }
  }
  return `# fish completion of qcow2; put it into a completions folder.\n${lines.join('\n')}\n`;
}
