import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { backingRecipes } from './recipes/backing.ts';
import { clusterRecipes } from './recipes/clusters.ts';
import { dataFileRecipes } from './recipes/data-file.ts';
import { type Recipe, SOURCE } from './recipes/recipe.ts';
import { stateRecipes } from './recipes/states.ts';
import { subclusterRecipes } from './recipes/subclusters.ts';
import { makeDense, settle } from './tools.ts';

/** Every image of the matrix; names are unique. */
export const recipes: readonly Recipe[] = [
  ...stateRecipes,
  ...clusterRecipes,
  ...subclusterRecipes,
  ...dataFileRecipes,
  ...backingRecipes,
];

/** The folder of a recipe below the run's own folder. */
export function folderOf(recipe: Recipe, root: string): string {
  return join(root, recipe.name.replace(/[^\w]+/g, '-'));
}

/** Makes a recipe's image in its folder, which is returned. */
export async function makeImage(recipe: Recipe, root: string): Promise<string> {
  const dir = folderOf(recipe, root);
  mkdirSync(dir);
  for (const step of recipe.steps) await step(dir);
  if (!recipe.facts.sparse) {
    for (const file of readdirSync(dir)) if (file !== SOURCE) makeDense(join(dir, file));
  }
  settle(join(dir, recipe.image));
  return dir;
}
