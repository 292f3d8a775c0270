// Loaded before a program (node -r): the optional package seems not to be installed.
const Module = require('node:module');
const find = Module._resolveFilename;
Module._resolveFilename = function (name, ...rest) {
  if (name !== 'koffi') return find.call(this, name, ...rest);
  throw Object.assign(new Error("Cannot find module 'koffi'"), { code: 'MODULE_NOT_FOUND' });
};
