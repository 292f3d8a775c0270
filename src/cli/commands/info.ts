import { fileResolver, openImage } from '../../node/open-image.ts';
import { backingChainInfo, info } from '../../operations/info.ts';
import type { Arguments } from '../arguments.ts';
import { inputImage } from '../common-options.ts';
import type { Context } from '../context.ts';
import { infoText } from '../print-human.ts';
import { infoJson } from '../print-json.ts';

/** `qcow2 info`: what is known about an image, and with `--backing-chain` about those below it. */
export async function run(args: Arguments<'info'>, context: Context): Promise<number> {
  const style = args.choice('output', ['human', 'json']);
  const [operand = ''] = args.operands;
  const input = { ...inputImage(args, operand), holdLocks: false };
  const image = await openImage(input.path, input);
  try {
    if (!args.has('backing-chain')) {
      const result = await info(image);
      context.write(style === 'json' ? infoJson(result) : infoText(result));
      return 0;
    }
    const chain = await backingChainInfo(
      image,
      fileResolver(input.path, input.allowExternal, input),
    );
    context.write(style === 'json' ? infoJson(chain) : chain.map(infoText).join('\n'));
    return 0;
  } finally {
    await image.close();
  }
}
