#pragma once
// What a compiled kernel takes, read from its cubin: an ELF file whose code sections hold one
// kernel each, in instructions of 16 bytes whose low 12 bits say which. So no disassembler is
// needed.

#include <cxxabi.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace lazy::test {

struct KernelCode {
  std::string name;  // with its template arguments
  int registers = 0, stack_bytes = 0;
  int local_accesses = 0;  // instructions that load or store what did not fit the registers
  int products = 0, matrix_loads = 0, async_copies = 0, fused = 0, special_functions = 0;
};

/// The part of a mangled name that people use: v1_forward_kernel<64>.
inline std::string kernel_name(const std::string& mangled) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(
      abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status), std::free);
  if (status != 0) return mangled;
  std::string name = text.get();
  for (const std::string& noise : {std::string("(anonymous namespace)::"), std::string("lazy::"),
                                   std::string("cuda::"), std::string(" ")})
    for (std::size_t at; (at = name.find(noise)) != std::string::npos;)
      name.erase(at, noise.size());
  name.erase(std::min(name.find('('), name.size()));  // the parameters
  if (name.rfind("void", 0) == 0) name.erase(0, 4);   // a template's result
  return name;
}

/// All kernels of one cubin. Throws std::runtime_error if it is none.
inline std::vector<KernelCode> read_cubin(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  const auto number = [&]<class T>(std::size_t at, T) {
    if (at + sizeof(T) > bytes.size()) throw std::runtime_error(path.string() + " is cut short");
    T value;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
  };
  const auto u16 = [&](std::size_t at) { return number(at, std::uint16_t()); };
  const auto u32 = [&](std::size_t at) { return number(at, std::uint32_t()); };
  const auto u64 = [&](std::size_t at) { return number(at, std::uint64_t()); };
  if (bytes.rfind("\x7f"
                  "ELF",
                  0) != 0)
    throw std::runtime_error(path.string() + " is no cubin");

  struct Section {
    std::string name;
    std::uint64_t begin, size;
    std::uint32_t symbol;
  };
  const auto header = [&](int i) { return u64(0x28) + std::uint64_t(i) * u16(0x3A); };
  const std::uint64_t names = u64(header(u16(0x3E)) + 24);
  std::vector<Section> sections;
  for (int i = 0; i < u16(0x3C); ++i) {
    const std::uint64_t at = header(i);
    sections.push_back(
        {bytes.c_str() + names + u32(at), u64(at + 24), u64(at + 32), u32(at + 44) & 0xFFFFFF});
  }

  // .nv.info: records of a form, an attribute, a size, and for form 4 a symbol and its value.
  constexpr int frame_size = 0x11, register_count = 0x2F;
  std::map<std::pair<int, std::uint32_t>, int> info;
  for (const Section& s : sections)
    for (std::uint64_t at = s.begin; s.name == ".nv.info" && at + 4 <= s.begin + s.size;) {
      const int form = bytes[at], attribute = std::uint8_t(bytes[at + 1]);
      if (form == 4 && u16(at + 2) == 8)
        info[{attribute, u32(at + 4)}] = static_cast<int>(u32(at + 8));
      at += 4 + (form == 4 ? u16(at + 2) : 0);
    }

  std::vector<KernelCode> kernels;
  for (const Section& s : sections) {
    if (s.name.rfind(".text.", 0) != 0) continue;
    KernelCode k{kernel_name(s.name.substr(6))};
    k.registers = info[{register_count, s.symbol}];
    k.stack_bytes = info[{frame_size, s.symbol}];
    for (std::uint64_t at = s.begin; at + 16 <= s.begin + s.size; at += 16)
      switch (u16(at) & 0xFFF) {
        case 0x983:  // LDL
        case 0x987:  // STL
          ++k.local_accesses;
          break;
        case 0x23C:  // HMMA
          ++k.products;
          break;
        case 0x83B:  // LDSM
          ++k.matrix_loads;
          break;
        case 0xFAE:  // LDGSTS
          ++k.async_copies;
          break;
        case 0x223:  // FFMA
          ++k.fused;
          break;
        case 0x308:  // MUFU
          ++k.special_functions;
          break;
      }
    kernels.push_back(k);
  }
  return kernels;
}

}  // namespace lazy::test
