# find_package(Tilewise) and pkg-config; both are tested by tests/install.
