import { defineConfig } from "vitest/config";

// Relative addresses: the page is served at / by `waystation dev` and by coordinators, and may sit below a prefix.
export default defineConfig({
  base: "./",
  build: { target: "es2022", sourcemap: true },
  // Tests run on made-up time: this ends one that hangs, and none that a busy machine holds up.
  test: { testTimeout: 60_000, hookTimeout: 60_000 },
});
