// A function at the edge (Cloudflare Workers, for example): what a disk image on a web server is, without
// downloading it. Such hosts compile WebAssembly when the function is deployed, and forbid it later:
// the module is imported, and given to the package that has none embedded.
//
//   GET /?image=https://images.example/disk.qcow2

import module from 'qcow2/qcow2.wasm';
import { HttpStorage, Image, info, init, isQcow2Error } from 'qcow2/slim';

init(module);

/** Only images from here are looked at: this is no proxy for everybody. */
const ALLOWED = /^https:\/\/images\.example\//;

export default {
  async fetch(request) {
    const url = new URL(request.url).searchParams.get('image') ?? '';
    if (!ALLOWED.test(url)) return new Response('no such image\n', { status: 403 });
    try {
      const image = await Image.open(await HttpStorage.open(url));
      const { format, virtualSize, snapshots, backingFilename } = await info(image);
      await image.close();
      return Response.json({ format, virtualSize, snapshots, backingFilename });
    } catch (error) {
      if (isQcow2Error(error)) return new Response(`${error.message}\n`, { status: 422 });
      throw error;
    }
  },
};
