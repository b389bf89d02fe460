// The tutorials as a reader meets them: complete, what they quote is what stands in the sources and
// in the output, and every link leads somewhere. That the programs run is tested in tutorials/.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "tests/catch.hpp"

namespace fs = std::filesystem;

namespace {

const fs::path root = SOURCE_DIR;

std::string read(const fs::path& path) {
  std::ifstream file(path);
  REQUIRE(file);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> lines(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> all;
  for (std::string line; std::getline(stream, line);) all.push_back(line);
  return all;
}

std::vector<fs::path> lessons() {
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(root / "tutorials"))
    if (entry.is_directory()) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  return folders;
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t times = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++times;
  return times;
}

struct Block {
  std::string language;
  std::vector<std::string> lines;
};

std::vector<Block> fenced_blocks(const std::string& markdown) {
  std::vector<Block> blocks;
  bool inside = false;
  for (const std::string& line : lines(markdown)) {
    if (line.rfind("```", 0) == 0) {
      inside = !inside;
      if (inside) blocks.push_back({line.substr(3), {}});
    } else if (inside) {
      blocks.back().lines.push_back(line);
    }
  }
  CHECK_FALSE(inside);
  return blocks;
}

// Indentation does not count: a quote starts at the margin.
std::string trimmed(const std::string& line) {
  const auto first = line.find_first_not_of(' ');
  return first == std::string::npos ? "" : line.substr(first);
}

bool stands_in(const std::vector<std::string>& quote, const std::vector<std::string>& text) {
  const auto same = [](const std::string& a, const std::string& b) {
    return trimmed(a) == trimmed(b);
  };
  return std::search(text.begin(), text.end(), quote.begin(), quote.end(), same) != text.end();
}

void check_links(const fs::path& page) {
  const std::string text = read(page);
  const std::regex link(R"(\]\(([^)\s]+)\))");
  for (std::sregex_iterator it(text.begin(), text.end(), link), end; it != end; ++it) {
    const std::string target = (*it)[1];
    if (target.rfind("http", 0) == 0) continue;
    CAPTURE(target);
    CHECK(fs::exists(page.parent_path() / target.substr(0, target.find('#'))));
  }
}

void check_width(const fs::path& page) {
  for (const std::string& line : lines(read(page))) {
    CAPTURE(line);
    CHECK(line.size() <= 150);
  }
}

}  // namespace

TEST_CASE("tutorials: each is complete, and its page names its commands") {
  for (const fs::path& folder : lessons()) {
    const std::string name = folder.filename().string();
    CAPTURE(name);
    for (const char* file :
         {"README.md", "main.cpp", "expected.txt", "exercise.hpp", "solution.hpp", "grade.cpp"})
      CHECK(fs::exists(folder / file));
    const std::string page = read(folder / "README.md");
    const std::string number = std::to_string(std::stoi(name.substr(0, 2)));
    CHECK(page.find("make tutorial N=" + number + "\n") != std::string::npos);
    CHECK(page.find("make exercise N=" + number + "\n") != std::string::npos);
    CHECK(count(page, "<details>") >= 3);
    CHECK(count(page, "<details>") <= 5);
    CHECK(count(page, "<details>") == count(page, "</details>"));
    for (const auto& entry : fs::directory_iterator(folder)) {
      const std::string picture = entry.path().filename().string();
      if (entry.path().extension() != ".svg") continue;
      CAPTURE(picture);
      CHECK(page.find("](" + picture + ")") != std::string::npos);
    }
  }
}

TEST_CASE("tutorials: quoted output is in expected.txt, quoted code is in its file") {
  for (const fs::path& folder : lessons()) {
    const std::vector<std::string> expected = lines(read(folder / "expected.txt"));
    for (const Block& block : fenced_blocks(read(folder / "README.md"))) {
      REQUIRE_FALSE(block.lines.empty());
      const std::string where = folder.filename().string() + ": " + block.lines.front();
      CAPTURE(where);
      // "text measured" is output too, of one machine: training amplifies last bits.
      if (block.language == "text") CHECK(stands_in(block.lines, expected));
      if (block.language != "cpp") continue;
      REQUIRE(block.lines.front().rfind("// ", 0) == 0);  // the first line names the file
      const fs::path beside = folder / block.lines.front().substr(3);
      const fs::path file = fs::exists(beside) ? beside : root / block.lines.front().substr(3);
      CHECK(stands_in({block.lines.begin() + 1, block.lines.end()}, lines(read(file))));
    }
  }
}

TEST_CASE("tutorials: links lead somewhere, lines fit, the index leads to every tutorial") {
  const fs::path index = root / "tutorials" / "README.md";
  check_links(index);
  check_width(index);
  for (const fs::path& folder : lessons()) {
    const std::string name = folder.filename().string();
    CAPTURE(name);
    check_links(folder / "README.md");
    check_width(folder / "README.md");
    CHECK(read(index).find("](" + name + "/README.md)") != std::string::npos);
  }
}
