import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    allowOnly: false,
    maxWorkers: '100%',
    // Tests start programs and write images; a machine that is busy must not fail them.
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
