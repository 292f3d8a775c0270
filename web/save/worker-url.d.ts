/** Vite builds a worker of such a module, and gives its URL. */
declare module '*?worker&url' {
  const url: string;
  export default url;
}
