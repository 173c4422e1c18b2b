import { defineConfig } from "vite";

/** The SDK as a package: one ES module. Its types come from `tsc -p tsconfig.sdk.json`. */
export default defineConfig({
  build: {
    target: "es2022",
    sourcemap: true,
    outDir: "dist-sdk",
    lib: { entry: "src/sdk/index.ts", formats: ["es"], fileName: "index" },
    rolldownOptions: { external: [/^@bufbuild\//, /^@connectrpc\//] },
  },
});
