// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title IImageMarketplace
/// @notice Images of virtual machines: who published them, what they cost on top of the machine, who shares the revenue,
/// and what payers who used them think of them.
/// @dev An image is a listing with a number, `seq`. The item hash of its content is not unique: whoever could list it first
/// would keep its author out. The author is the sender of the message with that item hash, which clients compare with the
/// publisher.
interface IImageMarketplace {
    /// @notice Where a listing is in its life. The numbers are part of the protocol. Jobs can be opened with an image that
    /// is Published or Deprecated.
    enum Status {
        None,
        Published,
        Deprecated,
        Hidden,
        Removed,
        TakenDown
    }

    /// @notice How an image is paid for. The numbers are part of the protocol.
    enum Model {
        Free,
        Royalty,
        Flat,
        OneTime
    }

    /// @notice A recipient's part of an image's own revenue, in 1/10,000.
    struct Split {
        address recipient;
        uint16 bps;
    }

    /// @notice A recipient's part of all revenue of an image, in 1/10^12. A derivative's list holds its ancestors'
    /// recipients, too.
    struct Recipient {
        address recipient;
        uint40 part;
    }

    /// @notice What a publisher says when publishing.
    /// @param imageId The item hash of the image's message.
    /// @param manifestHash SHA-256 of the manifest: architecture, kernel command line, list of contents.
    /// @param model How it is paid for.
    /// @param token For Flat and OneTime: the number of the token to pay in. Else 0, and any token does.
    /// @param price For Flat: wei per second, scaled by 2^32. For OneTime: wei for each job. Else 0.
    /// @param royaltyBps For Royalty: 1 to 2,000, in 1/10,000 of the rate of the machine. Else 0.
    /// @param parent The image this one derives from; 0 when none.
    /// @param parentBps The part of the revenue that goes to the parent's recipients, at most 3,000.
    /// @param splits Who shares the rest, at most 6; the parts make 10,000. Empty: all to the publisher.
    struct Listing {
        bytes32 imageId;
        bytes32 manifestHash;
        Model model;
        uint8 token;
        uint128 price;
        uint16 royaltyBps;
        uint32 parent;
        uint16 parentBps;
        Split[] splits;
    }

    /// @notice An image as it is now. `since` is when it got its status if that is final, else when it was published;
    /// `bond` is in whole tokens.
    struct ImageView {
        address publisher;
        Status status;
        Model model;
        uint8 token;
        uint128 price;
        uint16 royaltyBps;
        uint40 since;
        uint16 bond;
        bytes32 imageId;
        bytes32 manifestHash;
        uint32 version;
        uint32 parent;
        uint16 parentBps;
        uint8 depth;
        Recipient[] recipients;
    }

    /// @notice A payer's rating of an image. `weight` is what it was when given; it halves with every period after
    /// `period`.
    struct RatingView {
        uint8 stars;
        uint8 weight;
        uint8 period;
        uint40 ratedAt;
    }

    /// @notice An image was published; {SplitSet} and {ImageVersion} come with it. `bond` is in whole tokens.
    event ImagePublished(
        uint32 indexed seq,
        address indexed publisher,
        Model model,
        uint8 token,
        uint128 price,
        uint16 royaltyBps,
        uint32 parent,
        uint16 parentBps,
        uint16 bond
    );

    /// @notice Who shares the revenue of an image, for good.
    event SplitSet(uint32 indexed seq, Recipient[] recipients);

    /// @notice The content of an image is `imageId` from now on. Versions start at 1.
    event ImageVersion(uint32 indexed seq, bytes32 indexed imageId, bytes32 manifestHash, uint32 version);

    /// @notice An image's status changed.
    event ImageStatus(uint32 indexed seq, Status oldStatus, Status newStatus);

    /// @notice An image was taken down for a reason that `reason` is the hash of; {ImageStatus} comes with it.
    event ImageTakenDown(uint32 indexed seq, bytes32 reason);

    /// @notice Coordinators found malware in an image; its bond was burned.
    event BondForfeited(uint32 indexed seq, bytes32 reason, uint256 amount);

    /// @notice The bond of an image went back to its publisher.
    event BondReturned(uint32 indexed seq, address indexed publisher, uint256 amount);

    /// @notice The bond of images published from now on, in whole tokens.
    event BondSet(uint16 bond);

    /// @notice A payer rated an image. The sums are those of the image, with the weights of {weightsOf}.
    event ImageRated(
        uint32 indexed seq,
        address indexed payer,
        bytes32 indexed spec,
        uint8 stars,
        uint8 weight,
        uint8 period,
        bytes32 reviewHash,
        uint104 weightSum,
        uint104 weightedStars,
        uint32 count
    );

    /// @notice `amount` of an image's credit was paid to its recipients.
    event RoyaltiesDistributed(uint32 indexed seq, uint8 indexed token, uint256 amount);

    /// @notice So many wei of a token count as one USD.
    event UsdUnitSet(uint8 indexed token, uint128 unit);

    /// @dev No image has this number.
    error UnknownImage(uint32 seq);

    /// @dev The image cannot be used in new jobs.
    error ImageNotUsable(uint32 seq, Status status);

    /// @dev The image is paid for in another token.
    error WrongToken(uint8 have, uint8 want);

    /// @dev The terms do not fit the model.
    error BadTerms(Model model);

    /// @dev The royalty is above 2,000.
    error RoyaltyTooHigh(uint16 bps);

    /// @dev The parts of the splits make `sum`, not 10,000, or one of them is 0.
    error BadSplit(uint256 sum);

    /// @dev The image would be a derivative of a derivative of a derivative.
    error TooDeep(uint32 parent);

    /// @dev The bond can be had back from `until` on; 0 when there is none.
    error BondLocked(uint40 until);

    /// @dev The caller did not pay for this job.
    error NotPayer(bytes32 spec, address caller);

    /// @dev The job used another image.
    error WrongImage(uint32 have, uint32 want);

    /// @dev The job ran for `ran` seconds, not for `need`.
    error TooEarly(uint256 ran, uint256 need);

    /// @dev The payer owes in the token of this job.
    error NotPaid(bytes32 spec);

    /// @dev The payer earns from the image.
    error SelfRating(address payer);

    /// @dev Nobody has said what a USD is in this token.
    error NoUsdUnit(uint8 token);

    /// @notice Lists an image. Takes the bond from the caller's allowance in ALEPH.
    /// @return seq The number of the image; numbers start at 1.
    function publish(Listing calldata listing) external returns (uint32 seq);

    /// @notice Gives an image new content. Only its publisher.
    function newVersion(uint32 seq, bytes32 imageId, bytes32 manifestHash) external;

    /// @notice Moves an image between Published, Deprecated and Hidden. Only its publisher.
    function setStatus(uint32 seq, Status status) external;

    /// @notice Ends an image: no new jobs; running ones go on and go on paying. The bond can be had back 30 days later.
    /// Only its publisher.
    function unpublish(uint32 seq) external;

    /// @notice Pays the bond of a Removed or TakenDown image back to its publisher, 30 days after. Anyone may call.
    function returnBond(uint32 seq) external;

    /// @notice Ends an image for a reason: no new jobs; running ones go on, and anyone can end their royalties.
    /// @param reason The hash of a statement of the reason.
    function takedown(uint32 seq, bytes32 reason) external;

    /// @notice Takes a takedown back. The image is Hidden; its publisher may publish it again.
    function restore(uint32 seq) external;

    /// @notice Burns the bond of an image that was taken down. Anyone may call with the coordinators' verdict.
    /// @param sigs Of at least 5 coordinators (all, when there are fewer) with more than half of the weight, EIP-712
    /// `Takedown(uint32 seq,bytes32 imageId,bytes32 reason)`; see INodeRegistry.quorum for the form.
    function forfeit(uint32 seq, bytes32 reason, bytes calldata sigs) external;

    /// @notice Claims what these payers owe an image in a token, and pays the image's credit to its recipients. What does
    /// not divide stays for the next time. Anyone may call.
    /// @param payers At most 200; none when there is nothing to claim.
    /// @return paid The sum of what was paid.
    function distribute(uint32 seq, uint8 token, address[] calldata payers) external returns (uint256 paid);

    /// @notice Rates an image, or changes the caller's rating of it. Only the payer of a job with this image that ran for
    /// 24 hours at least and cost 1 USD at least, who owes nothing in its token and does not earn from the image.
    /// @param stars 1 to 5.
    /// @param spec The job.
    /// @param reviewHash The item hash of a review, or zero.
    function rate(uint32 seq, uint8 stars, bytes32 spec, bytes32 reviewHash) external;

    /// @notice Sets how many wei of a token count as one USD; 0: no ratings for jobs paid in it.
    function setUsdUnit(uint8 token, uint128 unit) external;

    /// @notice Sets the bond of new images: 1 to 10,000 whole tokens.
    function setBond(uint16 bond) external;

    /// @notice What a job with an image pays for it. Reverts when the image cannot be used in new jobs.
    /// @param token The token the job is paid in.
    /// @param computeRateQ32 The rate of the machine.
    /// @return payee The image's number as a payee.
    /// @return extraRateQ32 The rate to pay on top.
    /// @return once What to pay once, in wei.
    function quote(uint32 seq, uint8 token, uint128 computeRateQ32)
        external
        view
        returns (uint64 payee, uint128 extraRateQ32, uint128 once);

    /// @notice The same for a job that has the image already, whatever its publisher does with it later: nothing when it was
    /// taken down.
    function quoteKept(uint32 seq, uint8 token, uint128 computeRateQ32)
        external
        view
        returns (uint64 payee, uint128 extraRateQ32, uint128 once);

    /// @notice Whether new jobs can use an image.
    function usable(uint32 seq) external view returns (bool);

    /// @notice Whether running jobs pay for an image; false once it is taken down.
    function isPaying(uint32 seq) external view returns (bool);

    /// @notice An image as it is now.
    function image(uint32 seq) external view returns (ImageView memory);

    /// @notice The highest number of an image.
    function lastSeq() external view returns (uint32);

    /// @notice The sums of the ratings of an image, with the weights of today in 1/65,536.
    /// @return weight The sum of the weights.
    /// @return weightedStars The sum of stars times weight.
    /// @return count How many payers have rated.
    function rating(uint32 seq) external view returns (uint64 weight, uint64 weightedStars, uint32 count);

    /// @notice The sums as they are kept: a rating given in period p counts weight * 2^p, so that nothing has to be
    /// touched for older ones to lose half of their weight with every period of 180 days.
    function weightsOf(uint32 seq) external view returns (uint104 weightSum, uint104 weightedStars, uint32 count);

    /// @notice A payer's rating of an image.
    function ratingOf(uint32 seq, address payer) external view returns (RatingView memory);

    /// @notice How many wei of a token count as one USD.
    function usdUnit(uint8 token) external view returns (uint128);

    /// @notice The bond of new images, in whole tokens.
    function bondOfNew() external view returns (uint16);

    /// @notice The EIP-712 digest that coordinators sign for {forfeit}.
    function verdictDigest(uint32 seq, bytes32 reason) external view returns (bytes32);
}
