// throws.cc - an exception thrown, and caught, where the program has moved to
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>
#include "clients/libbproc/bproc.h"

static int destroyed;
struct counted {
    ~counted() { destroyed++; }
};

static void deep(int n, int node)
{
    counted c;
    std::vector<std::string> v(10, std::string(100, 'x'));

    if (n)
        return deep(n - 1, node);
    if (bproc_move(node) < 0)
        throw std::runtime_error("no move");
    throw std::out_of_range(v.at(9));
}

int main(int argc, char **argv)
{
    try {
        deep(50, argc > 1 ? atoi(argv[1]) : 0);
    } catch (const std::out_of_range &e) {
        if (std::string(e.what()).size() == 100 && destroyed == 51)
            printf("caught on %d\n", bproc_currnode());
    }
    return 0;
}
