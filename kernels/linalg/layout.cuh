// How matrices lie in a workspace: everything in tiles of kTile columns, so that the inner loops keep a kTile × kTile
// block of results in registers and read memory in order.
#pragma once
#include "../scalar.cuh"

namespace GD_NAMESPACE {

constexpr int kTile = 4;

GD_HD index_t tiles(index_t n) { return (n + kTile - 1) / kTile; }
GD_HD index_t padded(index_t n) { return tiles(n) * kTile; }

// A rows × columns matrix as panels of kTile columns, row after row inside a panel. Rows and columns beyond the matrix
// are stored and zero.
template <class T>
struct Panels {
  T* data;
  index_t rows;  // padded

  static GD_HD index_t words(index_t rows, index_t columns) { return tiles(columns) * padded(rows) * kTile; }
  GD_HD T* panel(index_t p) const { return data + p * rows * kTile; }
  GD_HD T& at(index_t row, index_t column) const {
    return data[((column / kTile) * rows + row) * kTile + column % kTile];
  }
};

// The lower triangle of a symmetric matrix: tiles row by row, each tile column-major. Diagonal tiles are stored whole.
template <class T>
struct SymmetricTiles {
  T* data;

  static GD_HD index_t words(index_t blocks) { return kTile * kTile * (blocks * (blocks + 1) / 2); }
  GD_HD T* tile(index_t row_block, index_t column_block) const {
    return data + words(row_block) + column_block * kTile * kTile;
  }
  // Entry (row, column) with row ≥ column; inside a diagonal tile either order.
  GD_HD T& at(index_t row, index_t column) const { return data[words(row / kTile) + column * kTile + row % kTile]; }
};

}  // namespace GD_NAMESPACE
