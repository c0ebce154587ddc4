# A small image: docker build --tag tawny --build-arg COMMIT="$(git rev-parse --short HEAD)" .
# With `--build-context build=FOLDER`, it takes the binary of a release in FOLDER instead of building one.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
ARG COMMIT=unknown
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/target \
    TAWNY_COMMIT="$COMMIT" CARGO_TARGET_DIR=/target cargo build --locked --profile dist \
    && cp /target/dist/tawny /tawny

# Only what the binary needs: libc, certificates, a user without rights.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /tawny /usr/local/bin/tawny
ENTRYPOINT ["tawny"]
CMD ["--help"]
