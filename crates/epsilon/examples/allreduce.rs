//! How long the ranks of an MPI job take to sum values: one line of JSON for every number of values, with the median of some sums.
//!
//! ```sh
//! cargo build --release -p epsilon-zsl --features mpi --example allreduce
//! mpirun -n 2 target/release/examples/allreduce 1 1000000
//! ```

use std::time::Instant;

/// Sums of each size.
const REPEATS: usize = 7;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let job = epsilon::ranks::start()?;
    let ranks = job.ranks();
    for count in std::env::args().skip(1) {
        let mut values = vec![1.0; count.parse()?];
        let mut seconds = Vec::new();
        for _ in 0..REPEATS {
            ranks.wait();
            let start = Instant::now();
            ranks.sum(&mut values);
            seconds.push(start.elapsed().as_secs_f64());
            values.fill(1.0);
        }
        seconds.sort_by(f64::total_cmp);
        if ranks.is_first() {
            let (count, size) = (values.len(), ranks.size());
            let median = seconds[REPEATS / 2];
            println!("{{\"ranks\": {size}, \"values\": {count}, \"seconds\": {median:e}}}");
        }
    }
    Ok(())
}
