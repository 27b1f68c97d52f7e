// How matrices lie in a workspace: everything in tiles of kTile columns, so that the inner loops keep a kTile × kTile
// block of results in registers and read memory in order.
#pragma once
#include "../scalar.cuh"

namespace GD_NAMESPACE {

constexpr int kTile = 4;

GD_HD index_t tiles(index_t n) { return (n + kTile - 1) / kTile; }
GD_HD index_t padded(index_t n) { return tiles(n) * kTile; }

// A GPU's shared memory serves 32 words at a time, from different banks. The threads of a group read the same place of
// neighbouring panels or tiles at once, so those must not begin at the same bank: a panel has an odd number of rows, a
// tile a row to spare. (The CPU library asks for the layout of the GPU kernels by GD_GPU_LAYOUT.)
#if defined(__CUDACC__) || defined(GD_GPU_LAYOUT)
constexpr index_t kTileWords = kTile * kTile + kTile;
GD_HD index_t panel_rows(index_t rows) { return rows > 0 ? (rows + 7) / 8 * 8 + 1 : 0; }
#else
constexpr index_t kTileWords = kTile * kTile;
GD_HD index_t panel_rows(index_t rows) { return padded(rows); }
#endif

// A rows × columns matrix as panels of kTile columns, row after row inside a panel. Rows and columns beyond the matrix
// are stored and zero.
template <class T>
struct Panels {
  T* data;
  index_t rows;  // of a panel in memory: `panel_rows`

  static GD_HD index_t words(index_t rows, index_t columns) { return tiles(columns) * panel_rows(rows) * kTile; }
  GD_HD T* panel(index_t p) const { return data + p * rows * kTile; }
  GD_HD T& at(index_t row, index_t column) const {
    return data[((column / kTile) * rows + row) * kTile + column % kTile];
  }
};

// The lower triangle of a symmetric matrix: tiles row by row, each tile column-major. Diagonal tiles are stored whole.
template <class T>
struct SymmetricTiles {
  T* data;

  static GD_HD index_t words(index_t blocks) { return kTileWords * (blocks * (blocks + 1) / 2); }
  GD_HD T* tile(index_t row_block, index_t column_block) const {
    return data + words(row_block) + column_block * kTileWords;
  }
  // Entry (row, column) with row ≥ column; inside a diagonal tile either order.
  GD_HD T& at(index_t row, index_t column) const {
    return tile(row / kTile, column / kTile)[column % kTile * kTile + row % kTile];
  }
};

}  // namespace GD_NAMESPACE
