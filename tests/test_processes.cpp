// Who a process is among several, from its environment alone.

#include <map>

#include "apps/errors.hpp"
#include "apps/processes.hpp"
#include "tests/catch.hpp"
#include "tests/refusal.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

ProcessPlace place_in(const std::map<std::string, std::string>& variables) {
  return process_place([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

bool is(const ProcessPlace& p, Index rank, Index size, Index local_rank) {
  return p.rank == rank && p.size == size && p.local_rank == local_rank;
}

}  // namespace

TEST_CASE("a process finds its place in what its launcher says", "[processes]") {
  CHECK(is(place_in({}), 0, 1, 0));
  CHECK(is(place_in({{"WORLD_SIZE", "1"}, {"RANK", "0"}}), 0, 1, 0));
  CHECK(is(place_in({{"WORLD_SIZE", "8"}, {"RANK", "5"}, {"LOCAL_RANK", "1"}}), 5, 8, 1));
  CHECK(is(place_in({{"OMPI_COMM_WORLD_SIZE", "4"},
                     {"OMPI_COMM_WORLD_RANK", "3"},
                     {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}}),
           3, 4, 1));
  CHECK(is(place_in({{"PMI_SIZE", "2"}, {"PMI_RANK", "1"}, {"MPI_LOCALRANKID", "0"}}), 1, 2, 0));
}

TEST_CASE("a place that cannot be is refused by the variable's name", "[processes]") {
  const auto text = [](const std::map<std::string, std::string>& variables) {
    return refusal<UserError>([&] { place_in(variables); });
  };
  CHECK(mentions(text({{"WORLD_SIZE", "2"}, {"LOCAL_RANK", "0"}}), "RANK is not set"));
  CHECK(mentions(text({{"WORLD_SIZE", "2"}, {"RANK", "2"}}), "RANK is '2'"));
  CHECK(mentions(text({{"WORLD_SIZE", "2"}, {"RANK", "-1"}}), "from 0 to 1"));
  CHECK(mentions(text({{"WORLD_SIZE", "two"}}), "WORLD_SIZE is 'two'"));
  CHECK(mentions(text({{"PMI_SIZE", "2"}, {"PMI_RANK", "1x"}}), "PMI_RANK is '1x'"));
}
